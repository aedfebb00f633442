"""Verdicts of the estimator study, point by point, from the paired differences over seeds.

*more*: supported when the 95 % interval of the difference lies above zero and the margin is exceeded by its mean;
refuted when it lies below zero, or when the 90 % interval lies below the margin; otherwise inconclusive. *not_more*:
refuted when the 95 % interval lies above zero and its mean exceeds the margin; supported when the 90 % interval lies
below the margin; otherwise inconclusive. One seed decides nothing.

That nothing falls is a finding only where something could: a claim without a baseline arm is withheld at points where
the reference gradient itself does not surely lower the loss of the held-out batches by the same procedure.
"""

import math
from dataclasses import replace

import pandas as pd

from lowbit.analysis.design import Design
from lowbit.analysis.estimate_claims import CLAIMS, EstimateClaim
from lowbit.analysis.estimate_comparisons import chosen_variants, difference, seed_means, values
from lowbit.analysis.statistics import Paired, holm, paired
from lowbit.analysis.verdicts import INCONCLUSIVE, NOT_MEASURED, REFUTED, SUPPORTED, WITHHELD, Verdict

_MEASURE = "percent_held_out"


def judge(design: Design, estimates: pd.DataFrame) -> list[Verdict]:
    """Every claim at every point where its arms were measured; a claim that nothing was measured for says so."""
    means = seed_means(estimates)
    verdicts: list[Verdict] = []
    for claim in CLAIMS:
        found = [_at_point(design, claim, point, means, estimates) for point in _points(claim, estimates)]
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


def _at_point(
    design: Design, claim: EstimateClaim, point: str, means: pd.DataFrame, estimates: pd.DataFrame
) -> Verdict:
    here = means[(means["task"] == claim.task) & (means["point"] == point)]
    treated = _chosen(here, claim.treatment, claim.except_variant)
    if claim.baseline is None:
        reference, result = None, paired(treated[_MEASURE].to_numpy())
    else:
        reference = _chosen(here, claim.baseline, "")
        result = difference(treated, reference, _MEASURE)
        if claim.contrast:
            result = _contrast(claim, means, treated, reference)
    outcome, level = decide(claim, result)
    note = _note(claim, treated, reference)
    if claim.baseline is None:
        control = paired(treated["percent_control"].to_numpy())
        note += f"; the reference gradient: {control.mean:+.2f} % [{control.low_95:+.2f}, {control.high_95:+.2f}]"
        if not control.low_95 > 0:
            outcome, note = WITHHELD, f"{note}: it does not surely lower the loss either"
    task = f"{claim.task}: {point}" if point else claim.task
    hardware = " and ".join(sorted(estimates.loc[estimates["task"] == claim.task, "hardware"].unique()))
    interval = tuple(getattr(result, f"{side}_{100 * level:.0f}") for side in ("low", "high"))
    known = all(map(math.isfinite, interval))
    return replace(
        _blank(design, claim, task, hardware, note),
        verdict=outcome,
        estimate=result.mean if math.isfinite(result.mean) else None,
        interval=interval if known else None,
        level=level if known else None,
        n=result.n,
        p=result.p if math.isfinite(result.p) else None,
    )


def decide(claim: EstimateClaim, result: Paired) -> tuple[str, float]:
    """The verdict from a mean difference in percent of the loss, and the level of the interval that decided."""
    further = result.low_95 > 0 and result.mean > claim.margin
    not_further = result.high_90 < claim.margin
    if claim.rule == "more":
        if result.high_95 < 0:
            return REFUTED, 0.95
        return (SUPPORTED, 0.95) if further else (REFUTED, 0.90) if not_further else (INCONCLUSIVE, 0.95)
    return (REFUTED, 0.95) if further else (SUPPORTED, 0.90) if not_further else (INCONCLUSIVE, 0.95)


def _contrast(claim: EstimateClaim, means: pd.DataFrame, treated: pd.DataFrame, reference: pd.DataFrame) -> Paired:
    """The difference between two arms, minus their difference in another task, over the seeds that have all four."""
    there = means[means["task"] == claim.contrast]
    sides = (
        treated,
        reference,
        _chosen(there, claim.treatment, claim.except_variant),
        _chosen(there, claim.baseline, ""),
    )
    a, b, c, d = (rows.set_index("seed")[_MEASURE] for rows in sides)
    return paired(((a - b) - (c - d)).dropna().to_numpy())


def _chosen(means: pd.DataFrame, arm: str, without: str) -> pd.DataFrame:
    rows = means[(means["arm"] == arm) & ((means["variant"] != without) | (without == ""))]
    variant = chosen_variants(rows)["variant"]
    return values(rows, arm, variant.iloc[0] if len(variant) else None)


def _note(claim: EstimateClaim, treated: pd.DataFrame, reference: pd.DataFrame | None) -> str:
    parts = []
    for arm, rows in ((claim.treatment, treated), (claim.baseline, reference)):
        if rows is not None and len(rows):
            variant = rows["variant"].iloc[0]
            share = 100 * rows["descends"].mean()
            words = f"{arm}{f' ({variant})' if variant else ''}: {rows[_MEASURE].mean():+.2f} %, falls on {share:.0f} %"
            low = rows["low_end"].mean()
            parts.append(
                f"{words} of the batches" + (f", best step at the grid's lower end on {100 * low:.0f} %" if low else "")
            )
    return "; ".join(parts)


def _blank(design: Design, claim: EstimateClaim, task: str, device: str, note: str) -> Verdict:
    against = f"{claim.treatment} against {claim.baseline}" if claim.baseline else claim.treatment
    against += f", beyond the same in {claim.contrast}" if claim.contrast else ""
    return Verdict(
        id=f"{design.study}/{task}/{claim.key}", study=design.study, task=task, claim=claim.text, source=claim.source,
        measure=f"decrease of the loss on held-out batches along each arm's best step; {against}", unit="%",
        threshold=claim.margin, device=device, verdict=NOT_MEASURED,
        figure=f"figures/{design.study}/{claim.figure}.png", note=note,
    )  # fmt: skip
