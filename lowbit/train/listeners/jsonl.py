"""events.jsonl: one line per optimizer step and per evaluation."""

import json
from pathlib import Path
from typing import Any

from lowbit.train.events import Evaluated, Event, RunStarted, StepsFinished
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners._lines import reopen


class JsonLines(Listener):
    """Writes step and evaluation records.

    Args:
        path: of the file; lines after the step that a resumed run starts from are dropped.
    """

    optional = False

    def __init__(self, path: Path):
        self.path = path
        self.stream = None

    def handle(self, event: Event) -> None:
        """Write what the event holds and flush it."""
        match event:
            case RunStarted():
                self.stream = reopen(self.path, lambda line: line["step"] <= event.first_step)
            case StepsFinished():
                self._write("step", *event.records)
            case Evaluated():
                self._write("evaluation", event.record)

    def close(self) -> None:
        """Close the file."""
        if self.stream:
            self.stream.close()

    def _write(self, kind: str, *records: dict[str, Any]) -> None:
        self.stream.writelines(json.dumps({"type": kind, **record}) + "\n" for record in records)
        self.stream.flush()
