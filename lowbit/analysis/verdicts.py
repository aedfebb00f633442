"""Verdicts: what the tables say about each claim, in each task.

Three rules. *less*: refuted when the 95 % interval of the difference (or log ratio) lies above zero, or when the 90 %
interval lies within the margin of practical equality; otherwise supported when the 95 % interval lies below zero;
otherwise inconclusive. *more*: the same, mirrored. *within*: supported when the 90 % interval lies within the margin
(two one-sided tests at 5 %); refuted when the 95 % interval lies wholly outside; otherwise inconclusive. *bound*: an
arm's own measure is held to a range, see `outcomes.held_to`. A verdict carries the interval that decided it.

When a control of a task fails, every claim in that task is withheld. One seed decides nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lowbit.analysis import notes
from lowbit.analysis.claim import Claim
from lowbit.analysis.claims import CLAIMS, CONTROL_TEXT, CONTROLS
from lowbit.analysis.comparisons import MEASURES, percent
from lowbit.analysis.controls import Control
from lowbit.analysis.design import Design
from lowbit.analysis.outcomes import INCONCLUSIVE, NOT_MEASURED, REFUTED, SUPPORTED, WITHHELD, held_to
from lowbit.analysis.statistics import paired
from lowbit.atomic import write_text
from lowbit.errors import UserError

_CONTROL = "control_"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim in one task, and what became of it.

    Args:
        id: study/task/claim.
        study: the study.
        task: the task.
        claim: what is claimed.
        source: by whom, where.
        measure: what was measured, of which arms.
        unit: unit of estimate, interval and threshold.
        estimate: mean paired difference, treatment minus baseline; None when withheld or not measured.
        interval: the interval that decided; None when there is none.
        level: its confidence level.
        n: pairs of runs.
        threshold: practical equality, as a half-width; an end of the range where there is a bound.
        device: what the runs computed on.
        verdict: supported, refuted, inconclusive, withheld or not measured here.
        figure: figure that shows it, relative to the results folder.
        p: of no difference (rules less and more), or of two one-sided tests (rule within).
        p_holm: p corrected over the tasks of the study.
        note: what else must be known to read it.
        bound: where the claim names a range instead of a difference from a baseline, that range in words.
    """

    id: str
    study: str
    task: str
    claim: str
    source: str
    measure: str
    unit: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    n: int = 0
    threshold: float
    device: str
    verdict: str
    figure: str
    p: float | None = None
    p_holm: float | None = None
    note: str = ""
    bound: str = ""

    @property
    def of_control(self) -> bool:
        """Whether it is about an identity, which holds to the last bit or not at all."""
        return self.id.rpartition("/")[2].startswith(_CONTROL)


def judge(design: Design, runs: pd.DataFrame, comparisons: pd.DataFrame, controls: Sequence[Control]) -> list[Verdict]:
    """Verdicts on the controls and on every claim of a study, task by task.

    Args:
        design: the study.
        runs: its runs table.
        comparisons: its comparisons table.
        controls: the outcome of its controls.
    """
    verdicts = []
    for task in design.runs:
        of_task = [control for control in controls if control.task == task]
        of_controls = [_control(design, task, arm, runs, of_task) for arm in design.controls]
        failures = [verdict.note for verdict in of_controls if verdict.verdict == REFUTED]
        metrics = {None, *runs.loc[runs["task"] == task, "metric"]}
        for claim in (c for c in CLAIMS.get(design.study, ()) if c.metric in metrics):
            verdict = _claim(design, task, claim, runs, comparisons)
            verdicts.append(_withheld(verdict, failures) if failures else verdict)
        verdicts += of_controls
    return verdicts


def _control(design: Design, task: str, arm: str, runs: pd.DataFrame, controls: Sequence[Control]) -> Verdict:
    target, (source, figure) = design.controls[arm], CONTROLS.get(design.study, ("", ""))
    verdict = Verdict(
        id=f"{design.study}/{task}/{_CONTROL}{arm}", study=design.study, task=task, source=source,
        claim=CONTROL_TEXT.format(arm=arm, target=target), unit="nats", threshold=0.0, device=_device(runs, task),
        measure="largest difference of a step's loss",
        figure=_figure(design, figure), verdict=NOT_MEASURED,
        note=f"{arm} and {target} share no seed of this task",
    )  # fmt: skip
    control = next((c for c in controls if c.arm == arm and c.seeds), None)
    if control is None:
        return verdict
    note = f"control {arm} does not reproduce {target}: {'; '.join(control.faults)}" if control.faults else ""
    outcome = REFUTED if control.faults else SUPPORTED
    return replace(verdict, verdict=outcome, estimate=_finite(control.difference), n=control.seeds, note=note)


def _claim(design: Design, task: str, claim: Claim, runs: pd.DataFrame, comparisons: pd.DataFrame) -> Verdict:
    measure = MEASURES[claim.measure]
    treatment, baseline = claim.arms(design)
    if claim.rule == "bound":
        return _bounded(design, task, claim, runs)
    verdict = Verdict(
        id=f"{design.study}/{task}/{claim.key}", study=design.study, task=task, claim=claim.text, source=claim.source,
        measure=f"{claim.words}; {treatment} against {baseline}",
        unit="%" if measure.logarithmic else measure.unit,
        threshold=100 * claim.margin if measure.logarithmic else claim.margin, device=_device(runs, task),
        verdict=NOT_MEASURED, figure=_figure(design, claim.figure),
        note=f"needs {treatment} and {baseline} with a seed in common",
    )  # fmt: skip
    row = notes.comparison(comparisons, task, (treatment, baseline), claim.measure)
    if row is None or row["n"] == 0:
        return verdict
    outcome, level = decide(claim, row)
    shown = percent if measure.logarithmic else float
    interval = tuple(shown(row[f"{side}_{100 * level:.0f}"]) for side in ("low", "high"))
    p = notes.p_column(claim, row)
    return replace(
        verdict, verdict=outcome, estimate=shown(row["mean"]), n=int(row["n"]),
        interval=interval if all(map(math.isfinite, interval)) else None,
        level=level if all(map(math.isfinite, interval)) else None,
        p=None if row["censored"] else _finite(row[p]), p_holm=None if row["censored"] else _finite(row[f"{p}_holm"]),
        note=notes.of_claim(design, task, claim, row, runs, comparisons),
    )  # fmt: skip


def _bounded(design: Design, task: str, claim: Claim, runs: pd.DataFrame) -> Verdict:
    """A claim about the measure of one arm, over its seeds."""
    unit, (arm, _) = MEASURES[claim.measure].unit, claim.arms(design)
    values = runs.loc[(runs["task"] == task) & (runs["arm"] == arm), claim.measure].dropna().to_numpy(dtype=float)
    result = paired(values)
    outcome, level = held_to(claim.bound, result)
    interval = tuple(getattr(result, f"{side}_{100 * level:.0f}") for side in ("low", "high"))
    known = all(map(math.isfinite, interval))
    return Verdict(
        id=f"{design.study}/{task}/{claim.key}", study=design.study, task=task, claim=claim.text, source=claim.source,
        measure=f"{claim.words}; {arm}", unit=unit, threshold=claim.bound.threshold, bound=claim.bound.words(unit),
        device=_device(runs, task), figure=_figure(design, claim.figure), n=result.n,
        verdict=outcome if result.n else NOT_MEASURED, estimate=_finite(result.mean),
        interval=interval if known else None, level=level if known else None,
        note=notes.of_bound(task, arm, result, runs) if result.n else f"needs runs of {arm} that measure it",
    )  # fmt: skip


def decide(claim: Claim, row: pd.Series) -> tuple[str, float]:
    """The verdict on a claim from its row of the comparisons, and the level of the interval that decided.

    Pairs that were censored leave a claim inconclusive: their differences are bounds, not values.
    """
    low, high = MEASURES[claim.measure].bounds(claim.margin)
    equal = low < row["low_90"] and row["high_90"] < high
    if row["censored"]:
        return INCONCLUSIVE, 0.95
    if claim.rule == "within":
        outside = row["low_95"] > high or row["high_95"] < low
        return (SUPPORTED, 0.90) if equal else (REFUTED, 0.95) if outside else (INCONCLUSIVE, 0.90)
    above, below = row["low_95"] > 0, row["high_95"] < 0
    against, for_it = (above, below) if claim.rule == "less" else (below, above)
    if against or equal:
        return REFUTED, 0.95 if against else 0.90
    return (SUPPORTED if for_it else INCONCLUSIVE), 0.95


def _withheld(verdict: Verdict, failures: Sequence[str]) -> Verdict:
    unknown = dict.fromkeys(("estimate", "interval", "level", "p", "p_holm"))
    return replace(verdict, verdict=WITHHELD, note="; ".join(failures), **unknown)


def _device(runs: pd.DataFrame, task: str) -> str:
    return " and ".join(sorted(runs.loc[runs["task"] == task, "hardware"].unique()))


def _figure(design: Design, name: str) -> str:
    return f"figures/{design.study}/{name}.png"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def write(path: Path, study: str, verdicts: Sequence[Verdict]) -> None:
    """Write the verdict file of a study; numbers carry twelve digits, as in the tables."""
    records = [{key: _rounded(value) for key, value in asdict(verdict).items()} for verdict in verdicts]
    write_text(path, json.dumps({"study": study, "verdicts": records}, indent=1, allow_nan=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def read(path: Path) -> list[Verdict]:
    """Read a verdict file.

    Raises:
        UserError: when it is missing or not one.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
        return [Verdict(**{**r, "interval": tuple(r["interval"]) if r["interval"] else None}) for r in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        again = "python -m lowbit aggregate ..."
        raise UserError(f"{path}: not a verdict file ({error}); make it again: {again}") from None
