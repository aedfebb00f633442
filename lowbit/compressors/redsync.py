"""RedSync's threshold search: t = mean + q (max - mean) of the magnitudes, with q halved towards k.

    reference   q in [0, 1], halved until the interval is at most 0.2 (3 probes); stop at k < n < 2 k; n < k / 2 lowers
                the upper end, everything else raises the lower one
    fixed       halving between counted thresholds from t = mean on, below it too, until k <= n <= 2 k

The reference moves away from the goal when k / 2 <= n <= k, uses its last probe whether or not it was accepted, and
with one outlier selects next to nothing, since q is measured from the maximum.

**Differs from the paper**: `fixed`, the default, as described.

**Reference**: J. Fang, H. Fu, G. Yang, C.-J. Hsieh, RedSync: Reducing Synchronization Bandwidth for Distributed Deep
Learning Training System, 2018, arXiv 1808.04357.
"""

from typing import Literal

import torch
from torch import Tensor

from lowbit.compressors._base import Compressor, at_least, largest_of
from lowbit.compressors._thresholds import search
from lowbit.variant import NonNegativeInt, variant


@variant
class RedSync(Compressor):
    """Threshold between the mean and the largest magnitude.

    Args:
        mode: whether the threshold is searched as published (`reference`) or by halving (`fixed`).
        probes: thresholds that are counted at most in fixed mode.
        cap: whether no more than k are sent, the largest.
    """

    mode: Literal["reference", "fixed"] = "fixed"
    probes: NonNegativeInt = 25
    cap: bool = False

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices beyond the threshold."""
        size = x.abs()
        indices = _reference(size, k) if self.mode == "reference" else self._fixed(size, k)
        return largest_of(size, indices, k) if self.cap else indices

    def _fixed(self, size: Tensor, k: int) -> Tensor:
        if float(size.max()) == 0:
            return size.new_empty(0, dtype=torch.int64)
        return at_least(size, search(size, k, float(size.mean()), self.probes, 1, 2))


def _reference(size: Tensor, k: int) -> Tensor:
    mean, most = float(size.mean()), float(size.max())
    low, high, threshold = 0.0, 1.0, 0.0
    while high - low > 0.2:
        q = low + 0.5 * (high - low)
        threshold = mean + q * (most - mean)
        count = int(torch.count_nonzero(size > threshold))
        if k < count < 2 * k:
            break
        if 2 * count < k:
            high = q
        else:
            low = q
    return (size > threshold).nonzero().flatten()
