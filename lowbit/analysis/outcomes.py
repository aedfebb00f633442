"""What can become of a claim, and the rule for one that names a range."""

import math

from lowbit.analysis.claim import Bound
from lowbit.analysis.statistics import Paired

SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"
WITHHELD, NOT_MEASURED = "withheld", "not measured here"


def held_to(bound: Bound, result: Paired, *, logarithmic: bool = False) -> tuple[str, float]:
    """The verdict on an estimate that must lie in a range, and the level of the interval that decided.

    *At least*, *at most*: supported when the 95 % interval lies on that side, refuted when it lies on the other,
    otherwise inconclusive. *Between*: supported when the 90 % interval lies inside (two one-sided tests at 5 %),
    refuted when the 95 % interval lies outside, otherwise inconclusive. One value has no interval, decides nothing.

    Args:
        bound: the range.
        result: mean and intervals.
        logarithmic: whether these are of logarithms.
    """
    shown = math.log if logarithmic else float
    low, high = (shown(end) if math.isfinite(end) else end for end in (bound.low, bound.high))
    if result.high_95 < low or result.low_95 > high:
        return REFUTED, 0.95
    level = 0.95 if math.isinf(low) or math.isinf(high) else 0.90
    ends = (result.low_95, result.high_95) if level == 0.95 else (result.low_90, result.high_90)
    inside = low <= ends[0] and ends[1] <= high
    return (SUPPORTED if inside else INCONCLUSIVE), level
