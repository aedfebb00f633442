"""Shared indices: ranks that choose the same entries reduce the values alone.

    mean_i = sum_r x_{r,i} / P for i in the common indices;   2 (P - 1) / P k values sent by each rank, no indices

For compressors that draw indices from a seed, as `randomk`: all ranks draw the same ones at the same step.

**Reference**: S. U. Stich, J.-B. Cordonnier, M. Jaggi, Sparsified SGD with Memory, 2018, arXiv 1809.07599; C.-Y. Chen,
J. Ni, S. Lu, et al., ScaleCom: Scalable Sparsified Gradient Compression for Communication-Efficient Distributed
Training, 2020, arXiv 2104.11125.
"""

from typing import ClassVar

from torch import Tensor

from lowbit.schemes._base import Message, Scheme, dense_mean
from lowbit.schemes._wire import Wire
from lowbit.variant import variant


@variant
class Shared(Scheme):
    """Values at indices that all ranks share."""

    shared: ClassVar[bool] = True

    def exchange(self, message: Message, into: Tensor, wire: Wire) -> None:
        """Add the mean of the values where all ranks have chosen."""
        into.index_add_(0, message.indices, dense_mean(message.values.clone(), wire))
