"""Times of steps, taken of all arms side by side, in the place of those that each run has of itself.

A run trains when it is its turn, and what else the machine does then is its own: such times do not compare arms.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from lowbit.analysis.runs import Run
from lowbit.errors import UserError


def side_by_side(runs: Iterable[Run], results: Path) -> Iterator[Run]:
    """The runs with the seconds that their steps took beside those of the other arms.

    Args:
        runs: of the exchange study.
        results: root of the outputs, with `timing/<task>/summary.json`.

    Raises:
        UserError: when a task or a run has not been timed.
    """
    tasks: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for run in runs:
        path = results / "timing" / run.task / "summary.json"
        if run.task not in tasks:
            if not path.is_file():
                raise UserError(f"{path}: missing; time the steps of the task's arms first: snakemake {path}")
            tasks[run.task] = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        seconds = tasks[run.task].get(run.arm, {}).get(str(run.seed))
        if seconds is None:
            raise UserError(f"{path}: has no times of {run.arm}, seed {run.seed}; delete it and make it again")
        exchange = run.summary["exchange"] | {"seconds": seconds}
        yield replace(run, summary=run.summary | {"exchange": exchange})
