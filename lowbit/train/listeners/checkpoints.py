"""Checkpoints: the state to resume from, numbered weights, and on demand when the run is told to stop."""

import time
from collections.abc import Callable
from pathlib import Path

from lowbit.train.checkpoint import save_state, save_weights
from lowbit.train.events import Event, RunFinished, RunStarted, StateReady
from lowbit.train.listeners._base import Listener
from lowbit.train.state import TrainState


class Checkpoints(Listener):
    """Writes state.safetensors every so often, and `step<N>.safetensors` every N steps.

    Args:
        folder: where; made when missing.
        identity: digests of spec, data and code, which a resumed run must share.
        every_seconds: between states.
        every_steps: between numbered weights; 0 writes none.
        elapsed: seconds the run has computed so far, over all attempts.
    """

    optional = False

    def __init__(
        self,
        folder: Path,
        identity: dict[str, str],
        every_seconds: float,
        every_steps: int,
        elapsed: Callable[[], float],
    ):
        self.folder = folder
        self.identity = identity
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self.elapsed = elapsed
        self.saved_at = time.monotonic()
        self.saved_step = 0
        self.numbered_step = 0

    def handle(self, event: Event) -> None:
        """Save when it is time."""
        match event:
            case RunStarted():
                self.saved_step = event.first_step
                self.numbered_step = event.first_step
            case StateReady():
                step = event.state.step
                if self.every_steps and step // self.every_steps > self.numbered_step // self.every_steps:
                    save_weights(event.state.model.state_dict(), self.folder / f"step{step}.safetensors")
                    self.numbered_step = step
                if time.monotonic() - self.saved_at >= self.every_seconds:
                    self.save(event.state)
            case RunFinished():
                self.save(event.state)

    def save(self, state: TrainState) -> None:
        """Write the state now, unless this step's is written already."""
        if state.step != self.saved_step:
            save_state(state, self.folder / "state.safetensors", self.identity, {"seconds": self.elapsed()})
            self.saved_step = state.step
        self.saved_at = time.monotonic()
