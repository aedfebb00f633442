"""A line every so many steps, for a person or a log file: where training is, and where its time goes."""

from typing import Any

from tqdm import tqdm

from lowbit.train.events import Event, RunStarted, StepsFinished
from lowbit.train.listeners._base import Listener

_SPLIT = ("forward", "backward", "compress", "communicate", "decompress", "update")


class StepLog(Listener):
    """Prints epoch, step, loss, perplexity or accuracy, milliseconds of each part of a step, and bytes sent.

    Args:
        every: optimizer steps between lines.
    """

    def __init__(self, every: int):
        self.every = every
        self.steps = 0

    def handle(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.steps = event.steps
            case StepsFinished(records=records):
                for record in records:
                    if record["step"] % self.every == 0 or record["step"] == self.steps:
                        tqdm.write(self.line(record))  # above a progress bar, if there is one

    def line(self, record: dict[str, Any]) -> str:
        """What is told of a step; compression and communication overlap the backward pass."""
        text = "perplexity" in record
        known = f"perplexity {record['perplexity']:.2f}" if text else f"accuracy {record['accuracy']:.3f}"
        line = f"epoch {record['epoch']:.2f}  step {record['step']}/{self.steps}  loss {record['loss']:.4f}  {known}"
        if "wire_bytes" not in record:
            return line
        split = ", ".join(f"{name} {1e3 * record[f'{name}_seconds']:.1f}" for name in _SPLIT)
        return f"{line}  step {1e3 * record['step_seconds']:.1f} ms ({split})  sent {record['wire_bytes']} bytes"
