"""Top-k: the k entries of largest magnitude, by `torch.topk`.

Among equals, those that torch finds first. On a CPU torch keeps 16 bytes for every entry while it selects: a partial
sort up to a density of 1/64 and a quickselect above, on one thread.

**Differs from the paper**: not sorted, which nobody needs; with or without feedback is not the compressor's affair
(`topk2` of GaussianK-SGD is this one without).

**Reference**: A. F. Aji, K. Heafield, Sparse Communication for Distributed Gradient Descent, 2017, arXiv 1704.05021;
D. Alistarh, T. Hoefler, M. Johansson, et al., The Convergence of Sparsified Gradient Methods, 2018, arXiv 1809.10505.
"""

from typing import ClassVar

from torch import Tensor

from lowbit.compressors._base import Compressor
from lowbit.variant import variant


@variant
class TopK(Compressor):
    """The k largest magnitudes."""

    exact: ClassVar[bool] = True

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices of the k largest magnitudes."""
        return x.abs().topk(k, sorted=False).indices
