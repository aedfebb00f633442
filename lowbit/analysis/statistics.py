"""Paired differences over seeds: t intervals, equivalence by two one-sided tests, Holm's correction.

The tests are statsmodels'; this module adds what they leave open: one seed, identical runs, and differences that are no
larger than the rounding of the numbers they are taken from.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

ROUNDING = 1e-9
"""Relative difference below which two measures of runs are equal; sums of thousands of float64 round to less."""

_INTERVALS = ("low_90", "high_90", "low_95", "high_95")


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean difference over n pairs with t intervals at 90 % and 95 %, and the two-sided p of no difference."""

    n: int
    mean: float
    sd: float
    low_90: float
    high_90: float
    low_95: float
    high_95: float
    p: float


def differences(treatment: np.ndarray, baseline: np.ndarray, *, logarithmic: bool = False) -> np.ndarray:
    """Differences of the pairs in which both values are known; exactly 0 where the two are equal but for rounding.

    Args:
        treatment: one value per seed.
        baseline: values of the same seeds in the same order.
        logarithmic: ln(treatment / baseline) instead; pairs without a logarithm are left out.
    """
    a, b = np.asarray(treatment, dtype=float), np.asarray(baseline, dtype=float)
    known = np.isfinite(a) & np.isfinite(b)
    if logarithmic:
        known &= (a > 0) & (b > 0)
    a, b = a[known], b[known]
    raw = np.log(a / b) if logarithmic else a - b
    return np.where(np.isclose(a, b, rtol=ROUNDING, atol=0.0), 0.0, raw)


def paired(difference: np.ndarray) -> Paired:
    """Mean and t intervals of differences.

    One pair has a mean and nothing else (NaN). Equal differences have intervals of zero width: p is then 1 at zero
    and 0 elsewhere, the limits of the t test.
    """
    d = np.asarray(difference, dtype=float)
    mean = float(d.mean()) if d.size else math.nan
    if d.size < 2:
        return Paired(n=d.size, mean=mean, **dict.fromkeys(("sd", *_INTERVALS, "p"), math.nan))
    if np.ptp(d) == 0:
        value = float(d[0])
        p = float(value == 0)
        return Paired(n=d.size, mean=value, sd=0.0, p=p, **dict.fromkeys(_INTERVALS, value))
    described = DescrStatsW(d)
    ends = (float(end) for alpha in (0.10, 0.05) for end in described.tconfint_mean(alpha))
    p = float(described.ttest_mean(0.0)[1])
    return Paired(n=d.size, mean=mean, sd=float(d.std(ddof=1)), p=p, **dict(zip(_INTERVALS, ends, strict=True)))


def equivalence(difference: np.ndarray, low: float, high: float) -> float:
    """The p of two one-sided tests that the mean difference lies in (low, high); NaN for fewer than two pairs.

    It is below 0.05 exactly when the 90 % interval lies in (low, high).
    """
    d = np.asarray(difference, dtype=float)
    if d.size < 2:
        return math.nan
    if np.ptp(d) == 0:
        return float(not low < d[0] < high)
    return float(ttost_paired(d, np.zeros_like(d), low, high)[0])


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p values; NaN stays NaN and does not count.

    statsmodels' multipletests is the oracle of its test; it collects garbage on every call, seconds for a study's
    families.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN sorts last
    adjusted = np.full_like(p, math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)), 1.0)
    return adjusted


def band(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and t interval of the mean over seeds at every point of a curve; the interval is NaN for one seed.

    Shape:
        values (seeds, points), NaN where a seed has no value; returns three of (points,).
    """
    values = np.asarray(values, dtype=float)
    with warnings.catch_warnings():
        # Points at which no seed, or only one, has a value are NaN by intent.
        warnings.simplefilter("ignore", RuntimeWarning)
        n = np.isfinite(values).sum(axis=0)
        mean = np.nanmean(values, axis=0)
        half = stats.t.ppf(0.5 + level / 2, n - 1) * np.nanstd(values, axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half
