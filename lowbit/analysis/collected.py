"""Finished runs from any folders, put side by side: an arm is named by what sets it apart from the others of its task.

`collect` gives the same `Tables` as a study has, without comparisons and verdicts. Runs of one process and runs whose
processes exchange gradients stand in one table; what only the latter have is NaN for the former.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lowbit import cost
from lowbit.analysis import exchanges, runs
from lowbit.analysis.rows import CURVE_POINTS
from lowbit.analysis.runs import Run
from lowbit.analysis.tables import Tables
from lowbit.errors import UserError

ALONE, REFERENCES = "one process", ("allreduce", "noop", "fp16", "bf16", "powersgd")
_NAMES = {"allreduce": "dense", "noop": "noop (sends nothing)"}
_NOT_NAMED = ("study", "task", "arm", "seed", "record", "threads", "exchange.check_every_steps")
_MEASURES = ("loss", "perplexity", "accuracy_percent", "seconds")


def collect(folders: Sequence[Path]) -> Tables:
    """The runs in folders, at any depth.

    Args:
        folders: each a run folder, or one that has run folders below it.

    Raises:
        UserError: when there is none, when one cannot be read, or when two are the same run.
    """
    found = [runs.read(path.parent) for path in _summaries(folders)]
    notes = _notes(found)
    names = [method_of(run.spec) + note for run, note in zip(found, notes, strict=True)]
    seen: dict[tuple[str, str, int], Run] = {}
    for run, name in zip(found, names, strict=True):
        twin = seen.setdefault((run.task, name, run.seed), run)
        if twin is not run:
            raise UserError(f"{twin.folder} and {run.folder}: the same run twice; give one of them")
    curves = [part for run, name in zip(found, names, strict=True) for part in _curves(run, name)]
    table = pd.DataFrame([_row(run, *of) for run, *of in zip(found, names, notes, strict=True)])
    # What the others are compared with comes first.
    place_of = {method: i for i, method in enumerate((ALONE, *REFERENCES, "sparse"))}
    keys = [table["method"].map(place_of), table["compressor"], table["density"], table["arm"]]
    ordered = pd.concat(keys, axis=1).sort_values(["method", "compressor", "density", "arm"]).index
    places = {arm: i for i, arm in enumerate(table.loc[ordered, "arm"].unique())}
    table = table.assign(arm_order=table["arm"].map(places))
    table = table.sort_values(["task", "arm_order", "seed"], ignore_index=True)
    return Tables("by_hand", table, pd.concat(curves, ignore_index=True), pd.DataFrame(), [])


def _summaries(folders: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        below = sorted(p for p in folder.rglob("summary.json") if _is_training(p.parent))
        if not below:
            raise UserError(f"{folder}: no finished run in it or below it; make one: python -m lowbit train ...")
        found |= dict.fromkeys(path.resolve() for path in below)
    return list(found)


def _is_training(folder: Path) -> bool:
    """Whether a folder is of a finished training run: other commands write such files too."""
    spec = folder / "spec.json"
    return spec.is_file() and "train" in json.loads(spec.read_text(encoding="utf-8"))


def _notes(found: Sequence[Run]) -> list[str]:
    """What to add to each run's method, so that runs of one name differ in their seed alone."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, run in enumerate(found):
        groups.setdefault((run.task, method_of(run.spec)), []).append(i)
    notes = [""] * len(found)
    for members in groups.values():
        specs = {i: _flat(found[i].spec) for i in members}
        keys = sorted({key for spec in specs.values() for key in spec})
        differing = [key for key in keys if len({json.dumps(spec.get(key)) for spec in specs.values()}) > 1]
        for i in members:
            notes[i] = "".join(f", {key.rpartition('.')[2]} {_short(specs[i].get(key))}" for key in differing)
    return notes


def method_of(spec: dict[str, Any]) -> str:
    """How the processes of a run exchange gradients, in a few words."""
    exchange = spec.get("exchange")
    if not exchange:
        return ALONE
    if exchange["method"] != "sparse":
        return _NAMES.get(exchange["method"], exchange["method"])
    if not _chooses(exchange):
        return _compressor(exchange)
    return f"{_compressor(exchange)} {100 * exchange['density']:g}%"


def _chooses(exchange: dict[str, Any]) -> bool:
    """Whether a part of the entries is sent, so that there is a density."""
    return exchange["method"] == "sparse" and exchange["compressor"]["name"] != "none"


def _compressor(exchange: dict[str, Any]) -> str:
    """Compressor, with the feedback and the scheme that are not the usual ones."""
    name, feedback, scheme = (exchange[key]["name"] for key in ("compressor", "feedback", "scheme"))
    notes = [] if feedback == "residual" or name == "none" else [f"feedback {feedback}"]
    notes += [] if scheme == "allgather" else [f"scheme {scheme}"]
    return f"{name} ({', '.join(notes)})" if notes else name


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, without those that make no other arm."""
    flat = {}
    for key, entry in value.items():
        place = f"{prefix}{key}"
        if place.startswith(_NOT_NAMED):
            continue
        flat |= _flat(entry, f"{place}.") if isinstance(entry, dict) else {place: entry}
    return flat


def _short(value: Any) -> str:
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _row(run: Run, name: str, note: str) -> dict[str, Any]:
    spec, summary = run.spec, run.summary
    settings, measured = spec.get("exchange") or {}, summary.get("exchange") or {}
    sparse = bool(settings) and _chooses(settings)
    test = summary["test"]["best"]
    final = test["perplexity"] if summary["metric"] == "perplexity" else 100 * test["accuracy"]
    seconds = exchanges.seconds_told(settings.get("method", ALONE), measured.get("seconds", {}))
    steps = measured.get("steps", math.nan)
    return {
        "task": run.task,
        "arm": name,
        "seed": run.seed,
        "hardware": run.hardware,
        "metric": "test perplexity" if summary["metric"] == "perplexity" else "test accuracy (%)",
        "final": final,
        "method": settings.get("method", ALONE),
        "compressor": _compressor(settings) + note if sparse else "",
        "density": settings["density"] if sparse else math.nan,
        "ranks": settings.get("ranks", 1),
        "steps": summary["steps"],
        "parameters": summary["parameters"],
        "seconds": summary["seconds"],
        "bytes_per_step": measured.get("wire_bytes", math.nan) / steps,
        "dense_bytes_per_step": measured.get("dense_wire_bytes", math.nan) / steps,
        "entries_sent": measured.get("entries_sent", math.nan),
        **{f"{part}_seconds": seconds.get(part, math.nan) for part in cost.PARTS},
    }


def wall_seconds(steps: pd.DataFrame) -> np.ndarray:
    """Seconds from the start of training to the end of each step, without evaluations.

    Where a step's own time was not recorded, it is that of its window of the log, divided evenly.
    """
    if "step_seconds" in steps and steps["step_seconds"].notna().all():
        return steps["step_seconds"].cumsum().to_numpy()
    unit = "tokens" if "tokens_per_second" in steps else "samples"
    rate = steps[f"{unit}_per_second"].bfill()  # stands at the last step of a window
    return (steps[unit] / rate).cumsum().to_numpy()


def _curves(run: Run, name: str) -> Iterator[pd.DataFrame]:
    """Evaluations as they are, and steps as means over at most `CURVE_POINTS` bins."""
    steps = run.steps.assign(seconds=wall_seconds(run.steps))
    known = run.evaluations
    seconds = np.interp(known["step"], steps["step"], steps["seconds"])
    yield _labelled(run, name, "evaluation", known.assign(seconds=seconds))
    bins = np.arange(len(steps)) * min(CURVE_POINTS, len(steps)) // len(steps)
    means = steps.select_dtypes("number").groupby(bins).mean()
    if "perplexity" in means:
        means["perplexity"] = np.exp(means["loss"])
    yield _labelled(run, name, "step", means)


def _labelled(run: Run, name: str, kind: str, points: pd.DataFrame) -> pd.DataFrame:
    points = points.assign(accuracy_percent=100 * points["accuracy"])
    wanted = points.reindex(columns=["step", *_MEASURES])
    labels = {"task": run.task, "arm": name, "seed": run.seed, "kind": kind}
    return pd.concat([pd.DataFrame(labels, index=wanted.index), wanted], axis=1)
