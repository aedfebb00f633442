"""Verdicts of the compressor study: estimates held to the bounds that claims name, as `outcomes.held_to` does.

O(...) is an upper bound, of the slope. One value decides nothing.

What is averaged: speed, cases (density and input) of one size, as logarithms; the training step, rounds; slopes,
densities and inputs; selections, seeds of the recorded run. A claim about a device that nothing was measured on, or
about an arm that the study does not have, is not measured here.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from lowbit.analysis.compression_claims import CLAIMS, CompressorClaim
from lowbit.analysis.compressions import FEW
from lowbit.analysis.outcomes import NOT_MEASURED, held_to
from lowbit.analysis.statistics import Paired, paired
from lowbit.analysis.verdicts import Verdict

STUDY = "compressor"
TRACES = "recorded gradients"
_UNITS = {"speed": "times", "step": "% of a step", "slope": "in the exponent", "selections": "%"}
_MEASURES = {
    "speed": "times faster than torch.topk(sorted=False), both with error feedback",
    "step": "time of sending every gradient of a training step, in percent of the step",
    "slope": "slope of log time against log N, minus that of the claimed number of operations",
}
_SELECTIONS = {
    "accuracy_percent": f"100 % - |T - T_k| / T_k at the k asked for, mean over layers and steps, k of {FEW} or more",
    "percent_two_thirds_to_four_thirds": f"selections of 2k/3 to 4k/3 entries, layers and steps, k of {FEW} or more",
    "percent_k_to_two_k": f"selections of k to 2k entries, layers and steps, k of {FEW} or more",
}


def judge(runs: pd.DataFrame, steps: pd.DataFrame, slopes: pd.DataFrame, comparisons: pd.DataFrame) -> list[Verdict]:
    """A verdict on every claim; the tables are those of `lowbit.analysis.compressions`."""
    tables = {"speed": runs, "step": steps, "slope": slopes, "selections": comparisons}
    processors = " and ".join(sorted(runs.loc[runs["device"] == "cpu", "hardware"].unique()))
    devices = {"cpu": processors, "": processors, "cuda": "no CUDA device was measured on"}
    verdicts = [_judged(claim, tables[claim.of], devices[claim.device]) for claim in CLAIMS]
    return sorted(verdicts, key=lambda verdict: verdict.task)


def _judged(claim: CompressorClaim, table: pd.DataFrame, device: str) -> Verdict:
    rows = table[(table["arm"] == claim.arm) & (table["variant"] == "")]
    if claim.device:
        rows = rows[rows["device"] == claim.device]
    if claim.of == "speed":
        rows = rows[rows["n"].between(*claim.sizes)]
    if claim.of == "selections":
        rows = rows[(rows["input"] == "real") & (rows["k"] >= FEW)]
    if rows.empty:
        where = {"cpu": "on a CPU", "cuda": "on a GPU"}.get(claim.device, "of recorded gradients")
        return _blank(claim, device, f"no measurement {where} of the arm {claim.arm}{_sizes(claim)} in this study")
    values = _values(claim, rows)
    result = paired(values)
    outcome, level = decide(claim, result)
    shown = math.exp if claim.of == "speed" else float
    interval = tuple(shown(getattr(result, f"{side}_{100 * level:.0f}")) for side in ("low", "high"))
    known = all(map(math.isfinite, interval))
    verdict = _blank(claim, " and ".join(sorted(rows["hardware"].unique())), _note(claim, rows, values, result))
    return replace(
        verdict, verdict=outcome, estimate=shown(result.mean), n=result.n, interval=interval if known else None,
        level=level if known else None,
    )  # fmt: skip


def _values(claim: CompressorClaim, rows: pd.DataFrame) -> np.ndarray:
    """One number for each of what is averaged."""
    if claim.of == "speed":
        return np.log(rows["ratio_to_topk"].to_numpy(dtype=float))
    if claim.of == "step":
        return rows["percent"].to_numpy(dtype=float)
    if claim.of == "slope":
        return (rows["slope"] - (rows[claim.work] if claim.work else 1.0)).to_numpy(dtype=float)
    return rows.groupby("seed")[claim.measure].mean().to_numpy(dtype=float)


def decide(claim: CompressorClaim, result: Paired) -> tuple[str, float]:
    """The verdict, and the level of the interval that decided."""
    return held_to(claim.bound, result, logarithmic=claim.of == "speed")


def _note(claim: CompressorClaim, rows: pd.DataFrame, values: np.ndarray, result: Paired) -> str:
    parts = []
    if result.n < 2:
        parts.append("a single value: no interval, hence no verdict")
    if claim.of == "speed":
        ratios = np.exp(values)
        parts.append(f"{ratios.min():.2f} to {ratios.max():.2f} over densities and inputs")
        if claim.band and math.exp(result.low_95) > claim.band[1]:
            parts.append(f"more than the claimed {claim.band[0]:g} to {claim.band[1]:g}")
    if claim.of == "step":
        densities = ", ".join(f"{d:g}" for d in sorted(rows["density"].unique()))
        step, layers = rows["step_milliseconds"].mean(), int(rows["layers"].max())
        parts.append(f"density {densities}; a step of {step:.0f} ms, {layers} parameters of {int(rows['n'].max()):,}")
    if claim.of == "slope":
        parts.append(
            f"slope {rows['slope'].mean():.2f}, N from {rows['smallest'].min():,} to {rows['largest'].max():,}"
        )
    if claim.of == "selections":
        parts.append(f"nnz/k {rows['nnz_low'].min():.2f} to {rows['nnz_high'].max():.2f}")
        if rows["hit_rate"].notna().any():
            parts.append(f"history serves {100 * rows['hit_rate'].mean():.0f} % of calls")
    return "; ".join(parts)


def _sizes(claim: CompressorClaim) -> str:
    low, high = claim.sizes
    if not low:
        return ""
    return f" at {low:,.0f} entries" if low == high else f" at sizes from {low:,.0f} entries on"


def _blank(claim: CompressorClaim, hardware: str, note: str) -> Verdict:
    task = {"cpu": "CPU", "cuda": "GPU"}.get(claim.device, TRACES)
    unit = _UNITS[claim.of]
    clock = {"cpu": ", in processor time", "cuda": ", until the device is done"}.get(claim.device, "")
    return Verdict(
        id=f"{STUDY}/{task}/{claim.key}", study=STUDY, task=task, claim=claim.text, source=claim.source,
        measure=f"{_MEASURES.get(claim.of) or _SELECTIONS[claim.measure]}{clock}; {claim.arm}", unit=unit,
        threshold=claim.bound.threshold, bound=claim.bound.words(unit),
        device=hardware, verdict=NOT_MEASURED, figure=f"figures/{STUDY}/{claim.figure}.png", note=note,
    )  # fmt: skip
