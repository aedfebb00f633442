"""TensorBoard files of a run."""

from pathlib import Path

from lowbit.errors import MissingExtraError
from lowbit.train.events import Event, RunStarted, StateReady
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners._scalars import scalars


class TensorBoard(Listener):
    """Writes the run's numbers as scalars; a resumed run hides what an interrupted one wrote after its checkpoint.

    Stands before the checkpoints in the list of listeners: the scalars of a step are then on disk before its state is.

    Args:
        folder: of the event files.

    Raises:
        MissingExtraError: when the extra is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "record.tensorboard: tensorboard is not installed; pip install 'lowbit[tensorboard]' or turn it off"
            ) from error
        self._open = SummaryWriter
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def handle(self, event: Event) -> None:
        match event:
            case RunStarted(first_step=first_step):
                self._writer = self._open(str(self._folder), purge_step=first_step + 1)
            case StateReady():
                self._writer.flush()
            case _:
                for step, values in scalars(event):
                    for tag, value in values.items():
                        self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
