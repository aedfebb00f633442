"""What a listener is, and how a failing optional one is dropped without stopping the run."""

import contextlib
import logging
from collections.abc import Iterable

from lowbit.train.events import Event

log = logging.getLogger("lowbit")


class Listener:
    """Acts on events.

    Attributes:
        optional: a failure warns once and drops the listener; otherwise it ends the run.
        wants_gradients: whether the loop should yield `GradientsReady`.
    """

    optional: bool = True
    wants_gradients: bool = False

    def handle(self, event: Event) -> None:
        """Act on one event; ignore those that are of no interest."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files and threads; called once, whatever happened."""


class Listeners:
    """A list of listeners that are told every event in order."""

    def __init__(self, listeners: Iterable[Listener]):
        self.active = list(listeners)

    @property
    def want_gradients(self) -> bool:
        """Whether any active listener asked for `GradientsReady`."""
        return any(listener.wants_gradients for listener in self.active)

    def handle(self, event: Event) -> None:
        """Tell every active listener."""
        for listener in list(self.active):
            try:
                listener.handle(event)
            except Exception as error:
                if not listener.optional:
                    raise
                self.active.remove(listener)
                log.warning("%s failed and is dropped; the run goes on: %r", type(listener).__name__, error)
                _close(listener, logging.DEBUG)

    def close(self) -> None:
        """Close every active listener, also those after one that fails to."""
        closing, self.active = self.active, []
        with contextlib.ExitStack() as stack:
            for listener in reversed(closing):  # a stack unwinds from its end
                stack.callback(_close, listener, logging.WARNING)


def _close(listener: Listener, level: int) -> None:
    try:
        listener.close()
    except Exception as error:
        if not listener.optional:
            raise
        log.log(level, "%s could not be closed: %r", type(listener).__name__, error)
