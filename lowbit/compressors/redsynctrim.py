"""RedSync's search from above, trimmed: t = mean + q (max - mean) with q = 0.8, 0.6, ... until k entries exceed it.

    t(q) = mean(|x|) + q (max|x| - mean(|x|));   sent = the k largest of |x| > t, the first t with at least k of them

q goes below 0, and thus t below the mean, if it must.

**Differs from the paper**: the trimmed search of GaussianK-SGD; entries that tie with t <= 0 are taken in as well, so
that k are found of every vector.

**Reference**: J. Fang, H. Fu, G. Yang, C.-J. Hsieh, RedSync: Reducing Synchronization Bandwidth for Distributed Deep
Learning Training System, 2018, arXiv 1808.04357.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lowbit.compressors._base import Compressor, largest_of
from lowbit.variant import Positive, variant


@variant
class RedSyncTrim(Compressor):
    """Threshold lowered in steps until k entries exceed it, then the k largest.

    Args:
        step: by which q falls.
    """

    exact: ClassVar[bool] = True
    step: Positive = 0.2

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices of the k largest magnitudes."""
        size = x.abs()
        mean, most = float(size.mean(dtype=torch.float64)), float(size.max())
        q, chosen = 1.0, size > most
        while int(torch.count_nonzero(chosen)) < k:
            q -= self.step
            threshold = mean + q * (most - mean)
            chosen = size > threshold if threshold > 0 and most > mean else size >= 0
        return largest_of(size, chosen.nonzero().flatten(), k)
