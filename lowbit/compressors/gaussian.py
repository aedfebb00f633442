"""Gaussian-k: the threshold that a normal distribution of this spread would have, corrected by counting.

    reference   t = mean(x) + std(x) Phi^-1(1 - d / 2), d = k / N; up to `adjustments` times: count n entries |x| > t,
                and t <- t / 2 if n < 2 k / 3, t <- 1.5 t if n > 4 k / 3, otherwise stop
    fixed       t = rms(x) Phi^-1(1 - d / 2), then halving between counted thresholds until 2 k / 3 <= n <= 4 k / 3

The reference takes the threshold of its last correction without counting again, jumps by factors that step over the
goal, selects nothing of a constant or of a single number, and ignores what a mean that is not 0 does to the other side.
Tails that are not normal make it send several times k, or a fraction of it.

**Differs from the paper**: `fixed`, the default. GaussianK-SGD's `gaussian2` corrects up to 5 times and has no
feedback.

**Reference**: S. Shi, X. Chu, K. C. Cheung, S. See, Understanding Top-k Sparsification in Distributed Deep Learning,
2019, arXiv 1911.08772.
"""

from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from lowbit.compressors._base import Compressor, at_least, largest_of
from lowbit.compressors._thresholds import search
from lowbit.variant import NonNegativeInt, variant


@variant
class Gaussian(Compressor):
    """Threshold of a normal distribution.

    Args:
        mode: whether the threshold is corrected as published (`reference`) or by halving (`fixed`).
        adjustments: corrections in reference mode.
        probes: thresholds that are counted at most in fixed mode.
        cap: whether no more than k are sent, the largest.
    """

    mode: Literal["reference", "fixed"] = "fixed"
    adjustments: NonNegativeInt = 3
    probes: NonNegativeInt = 10
    cap: bool = False

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices beyond the threshold."""
        size = x.abs()
        quantile = NormalDist().inv_cdf(1 - 0.5 * k / x.numel())
        indices = self._reference(x, size, k, quantile) if self.mode == "reference" else self._fixed(size, k, quantile)
        return largest_of(size, indices, k) if self.cap else indices

    def _reference(self, x: Tensor, size: Tensor, k: int, quantile: float) -> Tensor:
        threshold = float(x.mean() + quantile * x.std())
        for _ in range(self.adjustments):
            count = int(torch.count_nonzero(size > threshold))
            if 2 * k / 3 <= count <= 4 * k / 3:
                break
            threshold *= 0.5 if count < k else 1.5
        return (size > threshold).nonzero().flatten()

    def _fixed(self, size: Tensor, k: int, quantile: float) -> Tensor:
        most = float(size.max())
        if most == 0:
            return size.new_empty(0, dtype=torch.int64)
        rms = most * float(torch.linalg.vector_norm(size / most)) / size.numel() ** 0.5
        return at_least(size, search(size, k, rms * quantile, self.probes, 2 / 3, 4 / 3))
