"""Controls: arms that are equal on paper must be equal to the last bit in a deterministic run.

This is no statistical matter. If base e at T = 1/ln 2 does not reproduce base 2 exactly, then something besides the
softmax differs between the arms, and no difference between them may be read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowbit.analysis.design import Design
from lowbit.analysis.runs import Run


@dataclass(frozen=True, kw_only=True)
class Control:
    """The comparison of one control arm with its target in one task.

    Args:
        task: the task.
        arm: the control.
        target: the arm it must reproduce.
        seeds: number of pairs compared.
        faults: what differed, one phrase per seed; empty when everything is equal.
        difference: largest difference of a step's loss in nats; NaN when the runs cannot be laid side by side.
    """

    task: str
    arm: str
    target: str
    seeds: int
    faults: tuple[str, ...]
    difference: float


def check(runs: Sequence[Run], design: Design) -> tuple[Control, ...]:
    """Compare every control with its target, seed by seed, in every task that has both."""
    by_key = {(run.task, run.arm, run.seed): run for run in runs}
    results = []
    for task, arms in design.runs.items():
        for arm, target in design.controls.items():
            if arm not in arms or target not in arms:
                continue
            both = sorted(set(arms[arm]) & set(arms[target]))
            found = {seed: _compare(by_key[task, arm, seed], by_key[task, target, seed]) for seed in both}
            results.append(
                Control(
                    task=task, arm=arm, target=target, seeds=len(both),
                    faults=tuple(f"seed {seed}: {fault}" for seed, (fault, _) in found.items() if fault),
                    difference=max((d for _, d in found.values()), default=math.nan),
                )
            )  # fmt: skip
    return tuple(results)


def _compare(run: Run, target: Run) -> tuple[str, float]:
    """What differs between two runs ('' for nothing), and the largest difference of their step losses."""
    if len(run.steps) != len(target.steps):
        return f"{len(run.steps)} steps against {len(target.steps)}", math.nan
    faults, largest = [], 0.0
    for column, words in (("loss", "loss"), ("gradient_norm", "gradient norm")):
        a, b = run.steps[column].to_numpy(dtype=float), target.steps[column].to_numpy(dtype=float)
        different = np.flatnonzero(a != b)
        if different.size:
            faults.append(f"{words} differs from step {int(run.steps['step'].iloc[different[0]])}")
        if column == "loss":
            largest = float(np.abs(a - b).max())
    if run.summary["weights_sha256"] != target.summary["weights_sha256"]:
        faults.append("final weights differ")
    return ", ".join(faults), largest
