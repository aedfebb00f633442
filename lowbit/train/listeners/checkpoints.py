"""Checkpoints: the state to resume from, numbered weights, and on demand when the run is told to stop."""

import time
from collections.abc import Callable
from pathlib import Path

from lowbit.train.checkpoint import save_state, save_weights
from lowbit.train.events import Event, RunFinished, RunStarted, StateReady
from lowbit.train.listeners._base import Listener
from lowbit.train.parallel import GradientExchange
from lowbit.train.state import TrainState


class Checkpoints(Listener):
    """Writes state.safetensors every so often, and `step<N>.safetensors` every N steps.

    Args:
        folder: where; made when missing.
        identity: digests of spec, data and code, which a resumed run must share.
        every_seconds: between states.
        every_steps: between numbered weights; 0 writes none.
        elapsed: seconds the run has computed so far, over all attempts.
        exchange: with other processes, which all have this listener and save together; the first writes the state.
        first: whether this is the first process.
    """

    optional = False

    def __init__(
        self,
        folder: Path,
        identity: dict[str, str],
        every_seconds: float,
        every_steps: int,
        elapsed: Callable[[], float],
        exchange: GradientExchange | None = None,
        first: bool = True,
    ):
        self.folder = folder
        self.identity = identity
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self.elapsed = elapsed
        self.exchange = exchange
        self.first = first
        self.saved_at = time.monotonic()
        self.saved_step = 0
        self.numbered_step = 0

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.saved_at >= self.every_seconds

    def handle(self, event: Event) -> None:
        """Save when it is time."""
        match event:
            case RunStarted():
                self.saved_step = event.first_step
                self.numbered_step = event.first_step
            case StateReady():
                step = event.state.step
                if self.every_steps and step // self.every_steps > self.numbered_step // self.every_steps:
                    if self.first:
                        save_weights(event.state.model.state_dict(), self.folder / f"step{step}.safetensors")
                    self.numbered_step = step
                if self.exchange.saving if self.exchange else self.due:
                    self.save(event.state)
            case RunFinished():
                self.save(event.state)

    def save(self, state: TrainState) -> None:
        """Write the state now, unless this step's is written already.

        What other processes keep is written first: a state that can be read has all that belongs to it.
        """
        if state.step != self.saved_step:
            if self.exchange:
                self.exchange.save(self.folder, state.step)
            if self.first:
                save_state(state, self.folder / "state.safetensors", self.identity, {"seconds": self.elapsed()})
            if self.exchange and self.first:
                self.exchange.sweep(self.folder, state.step)
            self.saved_step = state.step
        self.saved_at = time.monotonic()
