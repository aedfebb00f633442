"""Stopping runs at a chosen event, going on with them, and comparing what comes out."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import lines_of, small_spec

from lowbit.__main__ import main
from lowbit.spec import RunSpec
from lowbit.train.events import Event, StepsFinished
from lowbit.train.listeners._base import Listener
from lowbit.train.run import execute

WHOLE = small_spec("vit", record={"resume_seconds": 0, "save_checkpoints": True})
STEPS = 12


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


class At(Listener):
    """Does something at an event of a step, before the checkpoints hear of it."""

    def __init__(self, step: int, act: Callable[[], Any], event: type[Event] = StepsFinished):
        self.step, self.act, self.event = step, act, event

    def handle(self, event: Event) -> None:
        if isinstance(event, self.event):
            step = event.records[-1]["step"] if isinstance(event, StepsFinished) else event.state.step
            if step == self.step:
                self.act()


def die() -> None:
    raise Killed


def send(number: int, times: int = 1) -> Callable[[], Any]:
    # Raised in this thread: two that the process receives before Python handles the first would be one.
    return lambda: [signal.raise_signal(number) for _ in range(times)]


def half_done(spec: RunSpec, folder: Path, data: Path, step: int = 7) -> Path:
    """Kill a run at a step and return the path of the state that it leaves."""
    with pytest.raises(Killed):
        execute(spec, folder, data, observers=lambda spec, work: [At(step, die)])
    return folder / "work/state.safetensors"


def train_by_command(spec: RunSpec, folder: Path, data: Path) -> int:
    """Exit status of the command, run in this process."""
    return main(["train", "--spec", spec.to_json(), "--folder", str(folder), "--data-folder", str(data)])


def counting(function: Callable, calls: list) -> Callable:
    """The function, which now notes its calls."""

    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return counted


def assert_equal_to(whole: Path, folder: Path) -> None:
    """Weights, results and events of two finished runs."""
    one, other = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for name in ("weights_sha256", "test", "validation", "identity"):
        assert one[name] == other[name]
    assert lines_of(folder / "events.jsonl") == lines_of(whole / "events.jsonl")
