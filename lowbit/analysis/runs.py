"""A finished run as the analysis reads it: its spec, its events and its summary."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lowbit.analysis.design import Design
from lowbit.errors import UserError

_AGAIN = "delete the run folder and train it again"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder in memory.

    Args:
        folder: where it was read from.
        spec: the resolved settings, as in spec.json.
        summary: test results, weights' digest, layers, machine, as in summary.json.
        steps: one row per optimizer step.
        evaluations: one row per pass over the validation split.
        start: the pretraining that it started from; None when it started from scratch.
    """

    folder: Path
    spec: dict[str, Any]
    summary: dict[str, Any]
    steps: pd.DataFrame
    evaluations: pd.DataFrame
    start: "Run | None" = None

    @property
    def task(self) -> str:
        """What was trained."""
        return self.spec["task"]

    @property
    def arm(self) -> str:
        """The variant under study."""
        return self.spec["arm"]

    @property
    def seed(self) -> int:
        """The repetition."""
        return self.spec["seed"]

    @property
    def epochs_before(self) -> float:
        """Epochs of the pretraining that it started from; 0 from scratch."""
        return self.start.epochs_before + self.start.spec["train"]["epochs"] if self.start else 0.0

    @cached_property
    def hardware(self) -> str:
        """What the run computed on, in words for a caption."""
        machine = self.summary["machine"]
        if self.summary["device"] == "cuda":
            return f"cuda: {machine['gpu']}"
        threads = machine["threads"]
        return f"cpu: {machine['processor']}, {threads} thread{'s' if threads != 1 else ''}"


def read(folder: Path) -> Run:
    """Read one run folder, and the folder of the weights that it started from.

    Raises:
        UserError: when a file is missing or unreadable, or no step or evaluation was recorded.
    """
    spec, summary = (_read_json(folder / name) for name in ("spec.json", "summary.json"))
    events: dict[str, list[dict[str, Any]]] = {"step": [], "evaluation": []}
    path = folder / "events.jsonl"
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            event = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not a JSON line ({error}); {_AGAIN}") from None
        events.setdefault(event.get("type", ""), []).append(event)
    for kind in ("step", "evaluation"):
        if not events[kind]:
            raise UserError(f"{path}: no line of type {kind!r}; {_AGAIN}")
    steps, evaluations = (pd.DataFrame(events[kind]).drop(columns="type") for kind in ("step", "evaluation"))
    validation = evaluations[evaluations["split"] == "validation"].reset_index(drop=True)
    start = read(_start_of(folder, Path(spec["start_from"]))) if spec["start_from"] else None
    return Run(folder=folder, spec=spec, summary=summary, steps=steps, evaluations=validation, start=start)


def _start_of(folder: Path, weights: Path) -> Path:
    """The folder of the run whose weights another started from, whatever the current folder is.

    Args:
        folder: of the run that started from them.
        weights: as its spec has them: relative to the folder where it was trained, which holds `folder`, or the current
            one.
    """
    above = [parent / weights.parent for parent in folder.resolve().parents]
    return next((place for place in above if (place / "spec.json").exists()), weights.parent)


def read_study(results: Path, design: Design) -> Iterator[Run]:
    """Every run of a design, in its order.

    Raises:
        UserError: as `read`; and when a folder holds another run than its path says.
    """
    for task, arms in design.runs.items():
        for arm, seeds in arms.items():
            for seed in seeds:
                folder = design.folder(results, task, arm, seed)
                run = read(folder)
                found = (run.spec["study"], run.task, run.arm, run.seed)
                if found != (design.study, task, arm, seed):
                    raise UserError(f"{folder}/spec.json: describes {found}, not the run its path names; {_AGAIN}")
                yield run


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        make = f"python -m lowbit train --spec {path.parent / 'spec.json'}"
        raise UserError(f"{path}: missing; make the run first: {make}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); {_AGAIN}") from None
