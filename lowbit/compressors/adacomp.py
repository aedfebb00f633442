"""AdaComp: in every bin, the entries that would reach its largest magnitude if the latest gradient came once more.

    x = r + g;   sent = { i in bin b : |x_i + g_i| >= max_{j in b} |x_j| }

The number sent follows from the gradients: k is not used. A bin in which all is 0 sends nothing.

**Differs from the paper**: values are sent as they are, instead of as a sign and a mean magnitude of each bin. Without
feedback x = g, and a bin sends what is at least half its maximum.

**Reference**: C.-Y. Chen, J. Choi, D. Brand, A. Agrawal, W. Zhang, K. Gopalakrishnan, AdaComp: Adaptive Residual
Gradient Compression for Data-Parallel Distributed Training, 2017, arXiv 1712.02679.
"""

import torch.nn.functional as F
from torch import Tensor

from lowbit.compressors._base import Compressor
from lowbit.variant import Count, variant


@variant
class AdaComp(Compressor):
    """Entries that rival the largest of their bin.

    Args:
        bin_size: entries of a bin; the paper takes 500 for linear layers and 50 for convolutions.
    """

    bin_size: Count = 500

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices of all bins, ascending."""
        missing = -x.numel() % self.bin_size
        largest = F.pad(x.abs(), (0, missing)).view(-1, self.bin_size).amax(1, keepdim=True)
        rivals = F.pad((x + latest).abs(), (0, missing)).view(-1, self.bin_size)
        return ((rivals >= largest) & (largest > 0)).flatten().nonzero().flatten()
