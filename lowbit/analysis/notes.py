"""What stands beside a verdict: numbers that change how it is read, each taken from the tables.

The word "better" is written only where an interval excludes zero.
"""

import math

import pandas as pd

from lowbit.analysis import exchanges
from lowbit.analysis.claim import Claim
from lowbit.analysis.comparisons import MEASURES, pairs, percent
from lowbit.analysis.design import Design
from lowbit.analysis.statistics import Paired


def comparison(comparisons: pd.DataFrame, task: str, arms: tuple[str, str], measure: str) -> pd.Series | None:
    """The row of one task, arm with its baseline, and measure; None when there is none."""
    c = comparisons
    rows = c[(c["task"] == task) & (c["arm"] == arms[0]) & (c["baseline"] == arms[1]) & (c["measure"] == measure)]
    return rows.iloc[0] if len(rows) else None


def p_column(claim: Claim, row: pd.Series) -> str:
    """The column of the comparisons with the p that belongs to a claim's rule and margin."""
    if claim.rule != "within":
        return "p"
    return "tost_p" if row["margin"] == claim.margin else "strict_tost_p"


def estimate(row: pd.Series) -> str:
    """Mean and 95 % interval of a comparison in words, with its unit: '+0.21 points [-0.30, +0.72]'."""
    logarithmic = MEASURES[row["measure"]].logarithmic
    shown, unit = (percent, "%") if logarithmic else (float, row["unit"])
    digits = 1 if logarithmic else 2
    text = f"{shown(row['mean']):+.{digits}f} {unit}"
    if not math.isfinite(row["low_95"]):
        return text
    return f"{text} [{shown(row['low_95']):+.{digits}f}, {shown(row['high_95']):+.{digits}f}]"


def of_claim(
    design: Design, task: str, claim: Claim, row: pd.Series, runs: pd.DataFrame, comparisons: pd.DataFrame
) -> str:
    """The note of a claim's verdict in one task."""
    low, high = MEASURES[claim.measure].bounds(claim.margin)
    arms = claim.arms(design)
    parts = []
    if row["n"] < 2:
        parts.append("one pair of runs: no interval, hence no verdict")
    elif row["sd"] == 0 and row["mean"] == 0:
        parts.append("equal in every pair")
    if claim.rule == "less" and low < row["low_90"] and row["high_90"] < high and not row["censored"]:
        parts.append(f"practically equal: the 90 % interval lies within ±{100 * claim.margin:g} %")
    if claim.measure.startswith(("test_accuracy", "test_perplexity")) and (row["low_95"] > 0 or row["high_95"] < 0):
        parts.append(f"{_better(arms, row)} (the 95 % interval excludes zero)")
    alone, corrected = row[p_column(claim, row)], row[f"{p_column(claim, row)}_holm"]
    if alone < 0.05 <= corrected:
        parts.append(f"p = {alone:.3f} alone, {corrected:.3f} after Holm's correction over tasks")
    if MEASURES[claim.measure].reached:
        parts += _censoring(arms, task, row, runs)
    parts += _link(claim, runs)
    if claim.measure == "gradient_dispersion":
        parts += _raw_variance(arms, task, runs, comparisons)
    parts += _scale_only_arms(design, task, claim, runs, comparisons)
    parts += _epochs(arms, task, runs)
    perplexity = comparison(comparisons, task, arms, "test_perplexity")
    if claim.measure.startswith("test_accuracy") and perplexity is not None and perplexity["n"]:
        parts.append(f"perplexity {estimate(perplexity)}")
    return "; ".join(parts)


def _better(arms: tuple[str, str], row: pd.Series) -> str:
    """Which of two arms is better by how much: of more accuracy, or of less perplexity."""
    if row["measure"] == "test_perplexity":
        return f"{arms[0] if row['mean'] < 0 else arms[1]} is better: perplexity {percent(row['mean']):+.1f} %"
    return f"{arms[0] if row['mean'] > 0 else arms[1]} is better by {abs(row['mean']):.2f} points"


def of_bound(task: str, arm: str, result: Paired, runs: pd.DataFrame) -> str:
    """The note of a verdict on one arm's measure."""
    parts = ["one run: no interval, hence no verdict"] if result.n == 1 else []
    row = runs[(runs["task"] == task) & (runs["arm"] == arm)].iloc[0]
    if "ranks" in row:
        parts.append(f"{row['ranks']} ranks, density {row['density']:g}, {row['sent_percent']:.2f} % of entries sent")
    return "; ".join(parts)


def _link(claim: Claim, runs: pd.DataFrame) -> list[str]:
    """How a time that was not measured on its link was computed."""
    if claim.measure not in exchanges.SECONDS_TO_REFERENCE[1:]:
        return []
    return [f"computed, not measured: {exchanges.COMPUTED}"]


def _censoring(arms: tuple[str, str], task: str, row: pd.Series, runs: pd.DataFrame) -> list[str]:
    if not row["censored"]:
        return []
    counts = []
    for arm, table in zip(arms, pairs(runs, task, *arms), strict=True):
        for kind, words in (("right", "never reached it"), ("left", "was above it at the first evaluation")):
            count = int((table["censored"] == kind).sum())
            counts += [f"{arm} {words} in {count} of {len(table)} runs"] if count else []
    return [f"censored, so the estimate is restricted to the observed range and decides nothing: {', '.join(counts)}"]


def _raw_variance(arms: tuple[str, str], task: str, runs: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    row = comparison(comparisons, task, arms, "gradient_variance")
    treated, reference = pairs(runs, task, *arms)
    factor = (treated["gradient_factor"] / reference["gradient_factor"]).iloc[0] ** 2
    if row is None or not math.isfinite(row["mean"]) or not math.isfinite(factor):
        return []
    return [f"raw variance ratio {math.exp(row['mean']):.2f}, where the scale of the loss alone predicts {factor:.2f}"]


def _scale_only_arms(
    design: Design, task: str, claim: Claim, runs: pd.DataFrame, comparisons: pd.DataFrame
) -> list[str]:
    """What arms that differ from the baseline only by a factor on the loss do to the same measure."""
    of_task = runs[(runs["task"] == task) & (runs["scale_only"] == 1)]
    arms = of_task["arm"].unique()
    rows = [(arm, comparison(comparisons, task, (arm, design.baseline), claim.measure)) for arm in arms]
    return [f"gradient scale alone ({arm}) {estimate(row)}" for arm, row in rows if row is not None and row["n"]]


def _epochs(arms: tuple[str, str], task: str, runs: pd.DataFrame) -> list[str]:
    """How long each arm was trained, where one of them started from pretraining: more training is not pretraining."""
    parts = []
    for arm, table in zip(arms, pairs(runs, task, *arms), strict=True):
        before, own = table["epochs_before"].iloc[0], table["epochs"].iloc[0]
        whole = f"{before:g} epochs of pretraining and {own:g}" if before else f"{own:g} epochs"
        parts.append((before, f"{arm} {whole}"))
    return [", ".join(words for _, words in parts)] if any(before for before, _ in parts) else []
