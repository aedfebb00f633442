"""Ok-Topk's reused threshold: exact every `interval` calls, nudged by what it counts in between.

    every interval calls   t = the k-th largest |x|
    otherwise              up to `raises` times, t <- 1.03 t while more than 4 k / 3 reach it; those are sent
                           then t <- 1.012 t if more than 5 k / 4 were sent, t <- t / 1.012 if fewer than 2 k / 3

**Differs from the paper**: the local threshold alone; the sparse all-reduce and its global threshold are not a choice
of entries. The 512 dense steps that its code begins with are left out.

**Reference**: S. Li, T. Hoefler, Near-Optimal Sparse Allreduce for Distributed Deep Learning, 2022, arXiv 2201.07598.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lowbit.compressors._base import Compressor, at_least
from lowbit.variant import Count, NonNegativeInt, variant

_THRESHOLD, _AGE = 0, 1  # of the history


@variant
class ThresholdReuse(Compressor):
    """A threshold that serves for many calls.

    Args:
        interval: calls from one exact threshold to the next.
        raises: how often the threshold may be raised within a call.
    """

    slots: ClassVar[int] = 2
    interval: Count = 32
    raises: NonNegativeInt = 5

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices from the threshold on."""
        size, threshold = x.abs(), float(history[_THRESHOLD])
        if threshold == 0 or history[_AGE] >= self.interval:
            top = size.topk(k)
            history[_THRESHOLD], history[_AGE] = top.values[-1], 1
            return top.indices
        history[_AGE] += 1
        for _ in range(self.raises):
            if int(torch.count_nonzero(size >= threshold)) <= 4 * k / 3:
                break
            threshold *= 1.03
        indices = at_least(size, threshold)
        if len(indices) > 5 * k / 4:
            threshold *= 1.012
        elif len(indices) < 2 * k / 3:
            threshold /= 1.012
        history[_THRESHOLD] = threshold
        return indices
