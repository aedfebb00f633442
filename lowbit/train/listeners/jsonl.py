"""events.jsonl: one line per optimizer step and per evaluation."""

import json
from pathlib import Path
from typing import Any

from lowbit.train.events import Evaluated, Event, RunStarted, StepsFinished
from lowbit.train.listeners._base import Listener


def keep_until(path: Path, step: int) -> None:
    """Cut a JSONL file after the last line of a step, and a half-written line at its end.

    Args:
        path: of the file; need not exist.
        step: last step whose lines stay.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    path.write_text("".join(kept), encoding="utf-8")


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
                self.path.parent.mkdir(parents=True, exist_ok=True)
                keep_until(self.path, event.first_step)
                self.stream = self.path.open("a", encoding="utf-8")
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
