"""One scalar per run: what a claim is judged by must not be a series.

The steps of a run are autocorrelated, trending and heavy-tailed, so a test over them has no known error rate. Each
run is reduced to one number, and numbers are compared over seeds.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

MEDIAN_WINDOW = 51
WARMUP_FRACTION = 0.1
SPIKE_FACTOR = 3.0
MINIMUM_STEPS = 10
REFERENCE_FRACTION = 0.9
"""Of the baseline's best validation accuracy: what arms are timed to."""
REFERENCE_PERPLEXITY = 1.1
"""Times its best validation perplexity, likewise: near the end of training, yet reached by whatever ends less than a
tenth worse."""


class GradientMeasures(NamedTuple):
    """Scalars of one run's gradient norms over its steady part.

    Args:
        dispersion: standard deviation of ln(norm) about its running median; free of scale and of trend.
        cv: standard deviation over mean; free of scale, but not of trend.
        spike_fraction: share of steps whose norm exceeds three running medians.
        variance: raw variance. It goes with the square of any factor on the loss, so it says nothing about smoothness.
    """

    dispersion: float
    cv: float
    spike_fraction: float
    variance: float


def gradient_measures(norms: np.ndarray) -> GradientMeasures:
    """Reduce the gradient norms of a run, without its first tenth, to scalars; NaN where too few steps are left.

    Args:
        norms: global gradient norm before clipping, per optimizer step.
    """
    series = pd.Series(np.asarray(norms, dtype=float))
    median = series.rolling(MEDIAN_WINDOW, center=True, min_periods=1).median()
    steady = series.index >= math.ceil(WARMUP_FRACTION * len(series))
    usable = steady & (series > 0) & np.isfinite(series)
    norm, median = series[usable], median[usable]
    if len(norm) < MINIMUM_STEPS:
        return GradientMeasures(math.nan, math.nan, math.nan, math.nan)
    relative = np.log(norm / median)
    return GradientMeasures(
        dispersion=float(relative.std()),
        cv=float(norm.std() / norm.mean()),
        spike_fraction=float((norm > SPIKE_FACTOR * median).mean()),
        variance=float(norm.var()),
    )


class Reached(NamedTuple):
    """When a run reached a reference.

    Args:
        steps: optimizer steps, interpolated between evaluations; the bound that is known where censored.
        censored: "no"; "left" when the first evaluation was already above; "right" when no evaluation was.
    """

    steps: float
    censored: str


def steps_to(reference: float, steps: np.ndarray, values: np.ndarray) -> Reached:
    """Optimizer steps until a validation measure first reaches a reference, by linear interpolation.

    Args:
        reference: value to reach from below; NaN when there is none.
        steps: increasing steps of the evaluations.
        values: the measure at those steps.

    Example:
        >>> steps_to(0.5, np.array([10, 20]), np.array([0.4, 0.8]))
        Reached(steps=12.5, censored='no')
    """
    if math.isnan(reference):
        return Reached(math.nan, "")
    above = np.flatnonzero(np.asarray(values) >= reference)
    if not above.size:
        return Reached(float(steps[-1]), "right")
    first = int(above[0])
    if first == 0:
        return Reached(float(steps[0]), "left")
    before, after = values[first - 1], values[first]
    share = (reference - before) / (after - before)
    return Reached(float(steps[first - 1] + share * (steps[first] - steps[first - 1])), "no")
