"""SIDCo with exponential tails: the threshold of a fitted distribution, stage by stage on what the last one left.

    t_0 = 0;   t_m = t_{m-1} + mean(|x| - t_{m-1} : |x| >= t_{m-1}) ln(1 / d_m);   sent = |x| >= t_M
    d_1 = ... = d_{M-1} = first,   d_1 ... d_M = k / N

Every `interval` calls the number of stages goes up by one when more than (1 + tolerance) k entries were sent in the
mean, and down when fewer than (1 - tolerance) k: a tail heavier than the fit needs more stages. Of a residual, whose
tail is cut off at the last threshold, a single stage at a small density may send nothing for long.

**Differs from the paper**: of its three distributions the double exponential alone; as many stages as leave a density
below 1 for the last.

**Reference**: A. M. Abdelmoniem, A. Elzanaty, M.-S. Alouini, M. Canini, An Efficient Statistical-based Gradient
Compression Technique for Distributed Training Systems, 2021, arXiv 2101.10761.
"""

import math
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from lowbit.compressors._base import Compressor, at_least
from lowbit.variant import Count, Fraction, variant

_STAGES, _CALLS, _SENT = 1, 2, 3  # of the history: stages, calls and share of k since the last change


@variant
class SIDCo(Compressor):
    """Threshold of exponential tails.

    Args:
        first: density that every stage but the last aims at.
        stages: M at the start.
        interval: calls between changes of M.
        tolerance: deviation from k that changes nothing.
    """

    slots: ClassVar[int] = 4
    first: Annotated[float, Field(gt=0, lt=1)] = 0.25
    stages: Count = 2
    interval: Count = 5
    tolerance: Fraction = 0.2

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices from the last stage's threshold on."""
        size, density = x.abs(), k / x.numel()
        stages, most = int(history[_STAGES]) or self.stages, 1 + max(0, math.ceil(math.log(density, self.first)) - 1)
        stages = min(stages, most)
        threshold = 0.0
        for stage in range(stages):
            beyond = size[size >= threshold]
            if not beyond.numel():
                break
            share = self.first if stage < stages - 1 else density / self.first ** (stages - 1)
            threshold += float((beyond - threshold).mean()) * math.log(1 / share)
        indices = at_least(size, threshold) if threshold > 0 else x.nonzero().flatten()
        self._adapt(history, stages, most, len(indices) / k)
        return indices

    def _adapt(self, history: Tensor, stages: int, most: int, sent: float) -> None:
        history[_CALLS] += 1
        history[_SENT] += sent
        if history[_CALLS] >= self.interval:
            mean = float(history[_SENT] / history[_CALLS])
            stages += (mean > 1 + self.tolerance) - (mean < 1 - self.tolerance)
            history[_CALLS] = history[_SENT] = 0
        history[_STAGES] = min(max(stages, 1), most)
