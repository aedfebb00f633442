"""HGG-TopK: top-k through a histogram of magnitudes, guided by the last threshold.

    bin(a) = floor(B log(1 + gamma a) / log(1 + gamma M)), M = max a;   S_i = entries in bins >= i
    i* = the largest i with S_i >= k;   T in bin i*

`exact` (default): all bins above i* and the largest of bin i*, so that what is sent is the top-k of every input, the
lowest index first among equals. The history saves a pass over memory: what lies above a little less than the last
threshold is collected while the gradient is added, and if that is at least k no histogram is made (see
`lowbit.kernels.selection`). It changes no result; nor do bins, gamma, tolerance and beta then.

`exact=False`: everything above a threshold T is sent, k or a little more. The last threshold is taken again while
k <= n <= (1 + tolerance) k; otherwise T = low + (high - low) (1 - (k - A) / c) beta in bin i* = [low, high) with c
entries and A above it, or `low` where fewer than k reach that.

**Differs from the paper**: there is none; the published code is at github.com/wzx666-yf/HGG-topk. It gallops over the
1024 numbers of a histogram, which saves nothing, sends fewer than k where its threshold lies too high, and everything
where it falls below 0; its bins degenerate to linear ones for magnitudes below 1 / gamma: `log_relative` and
`float_bits` do not.

**Reference**: github.com/wzx666-yf/HGG-topk, `core/compression.py`, 2025.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lowbit.compressors._base import Compressor, SelectFromEach, at_least, demand_finite_sum
from lowbit.kernels import segments
from lowbit.kernels.selection import (
    CALLS,
    HITS,
    REFUSED,
    SLOTS,
    THRESHOLD,
    bin_edges,
    forget_if_huge,
    select_largest,
    takes,
)
from lowbit.variant import Count, Fraction, NonNegative, Positive, variant


@variant
class HGGTopK(Compressor):
    """Top-k by histogram and history.

    Args:
        num_bins: B, of logarithmic bins.
        gamma: of logarithmic bins; large against 1 / |x| for bins of equal ratios.
        tolerance: surplus over k with which the last threshold is taken again, as a fraction; for exact=False.
        beta: factor on the place of the threshold in its bin; below 1 sends more; for exact=False.
        history: whether the last threshold is tried first.
        exact: whether exactly the k largest are sent.
        bins: log, with gamma as it is; log_relative, with gamma / mean|x|; float_bits, 8 bins an octave.
    """

    slots: ClassVar[int] = SLOTS
    refused: ClassVar[int] = REFUSED
    num_bins: Count = 1024
    gamma: Positive = 1000.0
    tolerance: NonNegative = 0.01
    beta: Fraction = 0.98
    history: bool = True
    exact: bool = True
    bins: Literal["log", "log_relative", "float_bits"] = "log"

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices of the k largest magnitudes, or of all above a threshold."""
        if self.exact:
            return self._select(None, x.clone(), history, k)[1]
        size, last = x.abs(), float(history[THRESHOLD])
        if self.history and last > 0:
            indices = at_least(size, last)
            if k <= len(indices) <= (1 + self.tolerance) * k:
                return indices
        threshold, indices = self._interpolated(size, k)
        history[THRESHOLD] = threshold
        return indices

    def stats(self, history: Tensor) -> dict[str, float]:
        """Calls of the op, and how many of them the last threshold served."""
        return {"calls": float(history[CALLS]), "hits": float(history[HITS])}

    def changed(self, entries: Tensor, history: Tensor) -> None:
        """Forget the last threshold when entries are huge: it is no bound of them."""
        forget_if_huge(history, entries)

    def select_from(self, residual: Tensor, increment: Tensor, k: int, history: Tensor) -> tuple[Tensor, Tensor | None]:
        """As of `Compressor.select_from`; exact selections are one op that compensates, selects and updates."""
        if not self.exact or k >= residual.numel():
            history[REFUSED] = 0
            return super().select_from(residual, increment, k, history)
        fused = takes(increment, residual)
        if not fused:
            demand_finite_sum(residual, increment)
            residual.add_(increment)
        return self._select(increment if fused else None, residual, history, k)

    def joint(self, gradient: Tensor) -> SelectFromEach | None:
        """On a GPU all layers of a bucket take as many launches as one, where selections are exact."""
        return self._select_from_each if self.exact and segments.one_launch(gradient) else None

    def _select_from_each(self, residual, increment, histories, cut) -> tuple[Tensor, Tensor]:
        if not self.history:
            histories[:, THRESHOLD] = 0
        return segments.select_largest_of_each(increment, residual, histories, cut)

    def _select(self, gradient: Tensor | None, residual: Tensor, history: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if not self.history:
            history[THRESHOLD] = 0
        return select_largest(gradient, residual, history, k, num_bins=self.num_bins, gamma=self.gamma, rule=self.bins)

    def _interpolated(self, size: Tensor, k: int) -> tuple[float, Tensor]:
        """A threshold that at least k magnitudes reach, and their indices; the first k where fewer are not 0."""
        if int(torch.count_nonzero(size)) < k:
            chosen = size.nonzero().flatten()
            rest = (size == 0).nonzero().flatten()[: k - len(chosen)]
            return 0.0, torch.cat([chosen, rest]).sort().values
        edges = self._edges(size)
        counts = torch.bincount(torch.bucketize(size, edges, right=True) - 1, minlength=len(edges))
        reached = counts.flip(0).cumsum(0).flip(0)
        place = int((reached >= k).nonzero()[-1])
        inside, above = int(counts[place]), int(reached[place] - counts[place])
        low = float(edges[place])
        high = float(edges[place + 1]) if place + 1 < len(edges) else float(size.max())
        threshold = low + (high - low) * (1 - (k - above) / inside) * self.beta
        indices = at_least(size, threshold)
        return (threshold, indices) if len(indices) >= k else (low, at_least(size, low))

    def _edges(self, size: Tensor) -> Tensor:
        """Lower edges of the bins, ascending, the first 0."""
        if self.bins == "float_bits":
            edges = (torch.arange(0x7F8, dtype=torch.int32) << 20).view(torch.float32)
        else:
            gamma = self.gamma / float(size.mean(dtype=torch.float64)) if self.bins == "log_relative" else self.gamma
            edges = torch.from_numpy(bin_edges(self.num_bins, gamma, float(size.max())))
        return edges.to(size)
