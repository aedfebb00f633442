"""Runs of the estimator study as tables: estimates, layers, and curves of the loss against the step.

An axis of a spec is a column named by its last part: `problem.dim` is `dim`. `point` says in words where the task's
axes stand, `variant` where the arm's do. `percent_*` are percent of the loss at the start, so that problems compare.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lowbit.analysis.design import Design
from lowbit.analysis.statistics import band
from lowbit.errors import UserError
from lowbit.probe_spec import TASK_AXES


@dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """One run folder of the estimator study in memory."""

    spec: dict[str, Any]
    summary: dict[str, Any]
    lines: list[dict[str, Any]]


def read_study(results: Path, design: Design) -> Iterator[ProbeRun]:
    """Every run of a design, in its order.

    Raises:
        UserError: when a file is missing or damaged, or a folder holds another run than its path says.
    """
    for task, arms in design.runs.items():
        for arm in arms:
            yield _read(results / design.study / task / arm, (design.study, task, arm))


def _read(folder: Path, expected: tuple) -> ProbeRun:
    try:
        spec, summary = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("spec.json", "summary.json")
        )
        lines = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        again = f"python -m lowbit probe --spec {folder / 'spec.json'} --folder {folder}"
        raise UserError(f"{folder}: not a finished run ({error}); make it again: {again}") from None
    found = tuple(spec[key] for key in ("study", "task", "arm"))
    if found != expected:
        raise UserError(f"{folder}/spec.json: describes {found}, not the run its path names; delete the folder")
    return ProbeRun(spec=spec, summary=summary, lines=lines)


def short(place: str) -> str:
    """The column of an axis."""
    return place.rpartition(".")[2]


def _label(values: dict[str, Any]) -> str:
    return ", ".join(str(v) if isinstance(v, str) else f"{short(place)} {_plain(v)}" for place, v in values.items())


def _plain(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _place(run: ProbeRun, design: Design, line: dict[str, Any]) -> dict[str, Any]:
    """Columns that say where a line belongs."""
    axes = {place: value for place, value in line["point"].items() if place != "seed"}
    parts = {True: {}, False: {}}
    for place, value in axes.items():
        parts[place.startswith(TASK_AXES)][place] = value
    threads, processor = run.summary["machine"]["threads"], run.summary["machine"]["processor"]
    spec = run.spec
    return {
        "study": design.study,
        "task": spec["task"],
        "arm": spec["arm"],
        "arm_order": design.arms.index(spec["arm"]),
        "role": design.role(spec["arm"]),
        "seed": line["point"].get("seed", spec["seed"]),
        "estimator": spec["estimator"]["name"],
        "surrogate": spec["surrogate"]["name"],
        "problem": spec["problem"]["name"],
        "hardware": f"cpu: {processor}, {threads} thread{'s' if threads != 1 else ''}",
        "point": _label(parts[True]),
        "variant": _label(parts[False]),
        **{short(place): value for place, value in axes.items()},
    }


def estimates_table(runs: Sequence[ProbeRun], design: Design) -> pd.DataFrame:
    """One row per estimate: task, arm, seed, point, variant and batch, with what was found over all tensors."""
    rows = []
    for run in runs:
        closeness = {}
        for line in run.lines:
            if line["type"] == "closeness" and line["tensor"] == "all":
                closeness[_key(line)] = {k: line[k] for k in ("cosine", "sign_agreement", "weighted_agreement")}
        for line in (line for line in run.lines if line["type"] == "estimate"):
            found = {k: v for k, v in line.items() if k not in ("type", "point", "curve")}
            percent = {
                "percent_decrease": _percent(line["decrease"], line["loss"]),
                "percent_held_out": _percent(line["decrease_held_out"], line["loss_held_out"]),
                "percent_control": _percent(line["control_held_out"], line["loss_held_out"]),
            }
            rows.append(_place(run, design, line) | found | percent | closeness[_key(line)])
    return pd.DataFrame(rows)


def _percent(part: float | None, whole: float | None) -> float:
    """NaN where a loss is zero or was not finite."""
    return 100 * part / whole if whole and part is not None else math.nan


def _key(line: dict[str, Any]) -> tuple:
    return (line["batch"], json.dumps(line["point"], sort_keys=True))


def layers_table(runs: Sequence[ProbeRun], design: Design) -> pd.DataFrame:
    """One row per task, arm, seed, point, variant and tensor: means over batches, spread, and the noise ceiling."""
    rows = []
    for run in runs:
        ceilings, cosines = {}, {}
        for line in run.lines:
            if line["type"] == "reference":
                ceilings[json.dumps(line["point"], sort_keys=True)] = line["ceiling"]
            elif line["type"] == "closeness":
                cosines.setdefault((json.dumps(line["point"], sort_keys=True), line["tensor"]), []).append(line)
        for line in (line for line in run.lines if line["type"] == "spread"):
            closeness = cosines[json.dumps(line["point"], sort_keys=True), line["tensor"]]
            task_point = {p: v for p, v in line["point"].items() if p.startswith(TASK_AXES)}
            means = {k: _mean([c[k] for c in closeness]) for k in ("cosine", "sign_agreement", "zero_fraction")}
            found = {k: v for k, v in line.items() if k not in ("type", "point")}
            ceiling = ceilings[json.dumps(task_point, sort_keys=True)][line["tensor"]]
            rows.append(_place(run, design, line) | found | means | {"ceiling": ceiling})
    return pd.DataFrame(rows)


def curves_table(runs: Sequence[ProbeRun], design: Design) -> pd.DataFrame:
    """Percent of the loss by which each step lowers it: mean over batches and seeds with a 95 % interval over seeds."""
    series: dict[str, dict[int, list[np.ndarray]]] = {}
    places: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for run in runs:
        rates = run.spec["rates"]
        grid = np.logspace(np.log10(rates["low"]), np.log10(rates["high"]), rates["points"])
        for line in (line for line in run.lines if line["type"] == "estimate" and line["curve"]):
            place = _place(run, design, line)
            key = json.dumps([place[k] for k in ("task", "arm", "point", "variant")])
            places.setdefault(key, (place, grid))
            curve = 100 * np.array(line["curve"]) / (line["loss"] or math.nan)
            series.setdefault(key, {}).setdefault(place["seed"], []).append(curve)
    rows = []
    for key, by_seed in series.items():
        place, grid = places[key]
        mean, low, high = band(np.stack([np.mean(curves, axis=0) for curves in by_seed.values()]))
        kept = {k: v for k, v in place.items() if k != "seed"}
        for values in zip(grid, mean, low, high, strict=True):
            rows.append(
                kept | {"seeds": len(by_seed)} | dict(zip(("rate", "mean", "low", "high"), values, strict=True))
            )
    return pd.DataFrame(rows)


def descents_table(runs: Sequence[ProbeRun], design: Design) -> pd.DataFrame:
    """One row per recorded update of every descent: update, loss."""
    columns = ["study", "task", "arm", "seed", "hardware", "point", "variant", "update", "loss"]
    rows = [
        _place(run, design, line)
        | {"update": line["update"], "loss": line["loss"]}
        | {"pairs": run.spec["problem"].get("pairs", 1), "epsilon": run.spec["estimator"].get("epsilon", math.nan)}
        for run in runs
        for line in run.lines
        if line["type"] == "descent"
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _mean(values: list[float | None]) -> float:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")
