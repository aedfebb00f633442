"""Verdicts of the estimator study, point by point, from the paired differences over seeds.

*more*: supported when the 95 % interval of the difference lies above zero and the margin is exceeded by its mean;
refuted when it lies below zero, or when the 90 % interval lies below the margin; otherwise inconclusive. *not_more*:
refuted when the 95 % interval lies above zero and its mean exceeds the margin; supported when the 90 % interval lies
below the margin; otherwise inconclusive. One seed decides nothing.

That something falls further, or not at all, is a finding only where something falls: a verdict is withheld at points
where the reference gradient, stepped along by the same procedure, does not lower the loss of more held-out batches than
chance would (one-sided sign test at 5 % over seeds and batches). A claim that compares gains in two tasks is withheld
where neither shows one.
"""

import math
from dataclasses import dataclass, replace

import pandas as pd
from scipy.stats import binomtest

from lowbit.analysis.design import Design
from lowbit.analysis.estimate_claims import CLAIMS, EstimateClaim
from lowbit.analysis.estimate_comparisons import GAINS, cross_fitted, cross_fitted_rows, difference, with_gains
from lowbit.analysis.outcomes import INCONCLUSIVE, NOT_MEASURED, REFUTED, SUPPORTED, WITHHELD
from lowbit.analysis.statistics import Paired, holm, paired
from lowbit.analysis.verdicts import Verdict

_ALPHA = 0.05


@dataclass(frozen=True)
class _Sides:
    """Means over batches, a row per seed, of the arms of a claim; `baseline` is None where there is no such arm."""

    treatment: pd.DataFrame
    baseline: pd.DataFrame | None

    def difference(self, measure: str) -> Paired:
        """Of the two arms, or of the treatment to nothing; a gain is one over the baseline as it stands."""
        if self.baseline is None or measure in GAINS:
            return paired(self.treatment[measure].to_numpy())
        return difference(self.treatment, self.baseline, measure)


def judge(design: Design, estimates: pd.DataFrame) -> list[Verdict]:
    """Every claim at every point where its arms were measured; a claim that nothing was measured for says so."""
    verdicts: list[Verdict] = []
    for claim in CLAIMS:
        found = [_at_point(design, claim, point, estimates) for point in _points(claim, estimates)]
        adjusted = holm([math.nan if v.p is None else v.p for v in found])
        verdicts += [
            replace(v, p_holm=None if math.isnan(p) else float(p)) for v, p in zip(found, adjusted, strict=True)
        ]
        if not found:
            note = f"needs the task {claim.task} with the arms {claim.treatment} and {claim.baseline or 'none'}"
            verdicts.append(_blank(design, claim, claim.task, "", note))
    return sorted(verdicts, key=lambda v: v.task)


def _points(claim: EstimateClaim, estimates: pd.DataFrame) -> list[str]:
    rows = estimates[estimates["task"] == claim.task]
    for axis, wanted in claim.where.items():
        rows = rows[rows[axis].isin(wanted)] if axis in rows else rows.iloc[:0]
    arms = {claim.treatment, *([claim.baseline] if claim.baseline else [])}
    if claim.contrast and not arms <= set(estimates.loc[estimates["task"] == claim.contrast, "arm"]):
        return []
    return [p for p in rows["point"].unique() if arms <= set(rows.loc[rows["point"] == p, "arm"])]


def _at_point(design: Design, claim: EstimateClaim, point: str, estimates: pd.DataFrame) -> Verdict:
    of_task = estimates[estimates["task"] == claim.task]
    sides = _sides(claim, of_task[of_task["point"] == point])
    result = sides.difference(claim.measure)
    note = _note(claim, sides)
    withheld = _why_withheld(sides)
    if claim.contrast:
        other = _sides(claim, estimates[estimates["task"] == claim.contrast])
        result = contrast(sides, other, claim.measure)
        gains = [s.difference(claim.measure) for s in (sides, other)]
        note += "; gain here {:+.2f} %, there {:+.2f} %".format(*(g.mean for g in gains))
        if not any(g.low_95 > 0 and g.mean > claim.margin for g in gains):
            withheld = f"no gain above {claim.margin:g} % is shown in either task, so that there is none to explain"
    outcome, level = decide(claim, result)
    task = f"{claim.task}: {point}" if point else claim.task
    interval = tuple(getattr(result, f"{side}_{100 * level:.0f}") for side in ("low", "high"))
    known = all(map(math.isfinite, interval))
    hardware = " and ".join(sorted(of_task["hardware"].unique()))
    return replace(
        _blank(design, claim, task, hardware, f"{note}; {withheld}" if withheld else note),
        verdict=WITHHELD if withheld else outcome,
        estimate=result.mean if math.isfinite(result.mean) else None,
        interval=interval if known else None,
        level=level if known else None,
        n=result.n,
        p=result.p if math.isfinite(result.p) else None,
    )


def _sides(claim: EstimateClaim, rows: pd.DataFrame) -> _Sides:
    treated = rows[(rows["arm"] == claim.treatment) & ~rows["variant"].isin(claim.without)]
    if claim.baseline is None:
        return _Sides(cross_fitted(treated, claim.measure), None)
    reference, measure = rows[rows["arm"] == claim.baseline], _of_one_arm(claim)
    if claim.measure in GAINS:
        treated = with_gains(treated, cross_fitted_rows(reference, measure))
    return _Sides(cross_fitted(treated, claim.measure), cross_fitted(reference, measure))


def _of_one_arm(claim: EstimateClaim) -> str:
    """What can be said of an arm without another."""
    return "percent_held_out" if claim.measure in GAINS else claim.measure


def contrast(sides: _Sides, other: _Sides, measure: str) -> Paired:
    """A gain, minus that of the same arms in another task, over the seeds that have both."""
    here, there = (side.treatment.set_index("seed")[measure] for side in (sides, other))
    return paired((here - there).dropna().to_numpy())


def decide(claim: EstimateClaim, result: Paired) -> tuple[str, float]:
    """The verdict from a mean difference in percent of the loss, and the level of the interval that decided."""
    further = result.low_95 > 0 and result.mean > claim.margin
    not_further = result.high_90 < claim.margin
    if claim.rule == "more":
        if result.high_95 < 0:
            return REFUTED, 0.95
        return (SUPPORTED, 0.95) if further else (REFUTED, 0.90) if not_further else (INCONCLUSIVE, 0.95)
    return (REFUTED, 0.95) if further else (SUPPORTED, 0.90) if not_further else (INCONCLUSIVE, 0.95)


def _why_withheld(sides: _Sides) -> str:
    """Why nothing can be said here; empty where the reference gradient surely descends."""
    rows = sides.treatment
    batches, falls = int(rows["batches"].sum()), round(float((rows["batches"] * rows["control_descends"]).sum()))
    if not batches or binomtest(falls, batches, alternative="greater").pvalue < _ALPHA:
        return ""
    mean = rows["percent_control"].mean()
    return f"the reference gradient itself lowers {falls} of {batches} held-out batches ({mean:+.2f} %)"


def _note(claim: EstimateClaim, sides: _Sides) -> str:
    parts = []
    for arm, rows in ((claim.treatment, sides.treatment), (claim.baseline, sides.baseline)):
        if rows is None or rows.empty:
            continue
        mean, share = rows[_of_one_arm(claim)].mean(), 100 * rows["descends"].mean()
        words = f"{arm}: {mean:+.2f} %, lowers {share:.0f} % of the held-out batches"
        scanned = rows["scan_evaluations"].mean()
        words += f", {rows['forward_evaluations'].mean() + scanned:.0f} evaluations"
        words += f" ({scanned:.0f} of them to scan steps)" if scanned else ""
        ends = {"lower": 100 * rows["low_end"].mean(), "upper": 100 * rows["high_end"].mean()}
        said = (f", best step at the grid's {end} end on {share:.0f} %" for end, share in ends.items() if share)
        parts.append(words + "".join(said))
    return "; ".join(parts)


_WORDS = {
    "percent_held_out": "decrease of the loss on held-out batches along each arm's best step",
    "percent_decrease": "decrease of the loss on the batches that were searched",
    "gain_held_out": "loss on held-out batches after several steps below that after one, in percent of the latter",
}


def _blank(design: Design, claim: EstimateClaim, task: str, device: str, note: str) -> Verdict:
    against = f"{claim.treatment} against {claim.baseline}" if claim.baseline else claim.treatment
    against += f", beyond the same in {claim.contrast}" if claim.contrast else ""
    return Verdict(
        id=f"{design.study}/{task}/{claim.key}", study=design.study, task=task, claim=claim.text, source=claim.source,
        measure=f"{_WORDS[claim.measure]}; {against}", unit="%", threshold=claim.margin, device=device,
        verdict=NOT_MEASURED, figure=f"figures/{design.study}/{claim.figure}.png", note=note,
    )  # fmt: skip
