"""The tables of a study: written whole, read back without losing an arm called `null`, the only input of figures."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lowbit.analysis.design import FURTHER
from lowbit.atomic import write_text
from lowbit.errors import UserError

NAMES = ("runs", "curves", "comparisons")
TEXT_COLUMNS = frozenset(
    (
        *("study", "task", "arm", "role", "target", "baseline", "measure", "kind", "censored", "metric", "unit"),
        *("dataset", "model", "device", "hardware", "softmax", "softmax_where", "weights_sha256"),
        *("method", "compressor", "feedback", "granularity", "further_settings", "link"),
        *("point", "variant", "estimator", "surrogate", "problem", "tensor", "at_grid_end", "start_from", "activation"),
        *("setting", "backward", "mode", "form", "layer", "of"),
        *("scheme", "gradient"),
    )
)


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table; twelve digits keep what was measured and drop what only rounding decides."""
    write_text(path, table.to_csv(index=False, float_format="%.12g", lineterminator="\n"))


def read(path: Path) -> pd.DataFrame:
    """Read a table that `write` wrote: text columns stay text whatever they say, empty numbers are NaN.

    Raises:
        UserError: when there is no such table.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; make it first: python -m lowbit aggregate ...")
    columns = pd.read_csv(path, nrows=0).columns
    text = {column: str for column in columns if column in TEXT_COLUMNS}
    empty = {column: [""] for column in columns if column not in TEXT_COLUMNS}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty)


@dataclass(frozen=True)
class Tables:
    """Everything a figure may be drawn from.

    Args:
        study: name of the study.
        runs: one row per run.
        curves: evaluations, and steps in at most 200 bins, per run.
        comparisons: one row per task, arm and measure, against the baseline.
        verdicts: the study's verdict records.
        further: tables that only some studies have, by name.
    """

    study: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    comparisons: pd.DataFrame
    verdicts: list[dict[str, Any]]
    further: dict[str, pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Tasks, in the order of the study."""
        return tuple(self.runs["task"].unique())

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms, in the order of the study, which decides their colours."""
        return tuple(self.runs.sort_values("arm_order", kind="stable")["arm"].unique())

    @cached_property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.runs.loc[self.runs["role"] == "baseline", "arm"].iloc[0]

    def arms_of(self, task: str) -> tuple[str, ...]:
        """Arms that a task has, in the order of the study."""
        present = set(self.runs.loc[self.runs["task"] == task, "arm"])
        return tuple(arm for arm in self.arms if arm in present)

    def runs_of(self, task: str, arm: str) -> pd.DataFrame:
        """Rows of the runs of one task and arm, by seed."""
        runs = self.runs
        return runs[(runs["task"] == task) & (runs["arm"] == arm)].sort_values("seed")

    def curve(self, task: str, arm: str, kind: str, measure: str, along: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """One measure of one arm over training.

        Args:
            task: the task.
            arm: the arm.
            kind: "evaluation", "step", or "pretraining" for the evaluations of the run that it started from.
            measure: a column of the curves.
            along: "step" or "epoch".

        Returns:
            Steps or epochs (points,) and values (seeds, points), NaN where a seed has no value.
        """
        c = self.curves
        rows = c[(c["task"] == task) & (c["arm"] == arm) & (c["kind"] == kind)]
        wide = rows.pivot(index=along, columns="seed", values=measure).dropna(how="all")
        return wide.index.to_numpy(dtype=float), wide.to_numpy(dtype=float).T


def load(study: str, tables: Path, verdicts: Path) -> Tables:
    """Read the tables and verdicts of a study.

    Args:
        study: its name.
        tables: folder of `<study>_<table>.csv`.
        verdicts: folder of `<study>.json`.

    Raises:
        UserError: when one of them is missing.
    """
    path = verdicts / f"{study}.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; make it first: python -m lowbit aggregate --study {study} ...")
    records = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
    further = {name: read(tables / f"{study}_{name}.csv") for name in FURTHER.get(study, ())}
    return Tables(study, *(read(tables / f"{study}_{name}.csv") for name in NAMES), records, further)
