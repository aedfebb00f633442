"""Balanced sparse all-reduce: the vector is cut so that every rank sums about as many entries, then all are gathered.

    bounds_j = mean_r (the index below which rank r sends j / P of its entries),   j = 1..P-1
    rank j gets all entries in [bounds_j, bounds_{j+1}), sums them in rank order, keeps the ceil(k / P) largest;
    all-gather of what is kept.   2 (P - 1) / P k values and as many indices sent by each rank, if evenly spread

so 4 (P - 1) / P k numbers whatever P is, twice the least possible. Sums that are not kept stay with the rank that made
them.

**Differs from the paper**: every rank keeps equally many sums of its part (as in SparDL) instead of those above a
threshold that is estimated every 32 steps, so that the gathered messages are even without a balancing step and nothing
is remembered between steps; the bounds are found at every step, which costs a message of 8 (P - 1) bytes.

**Reference**: S. Li, T. Hoefler, Near-Optimal Sparse Allreduce for Distributed Deep Learning, 2022, arXiv 2201.07598;
M. Zhao, Y. Yin, Y. Mao, et al., SparDL: Distributed Deep Learning Training with Efficient Sparse Communication, 2023,
arXiv 2304.00737.
"""

import torch
from torch import Tensor

from lowbit.compressors import Sparse
from lowbit.schemes._base import Message, Scheme, largest, pack, summed, unpack
from lowbit.schemes._wire import Wire
from lowbit.variant import variant


@variant
class OkTopK(Scheme):
    """Every rank sums a part of the vector, and all gather the largest sums."""

    def exchange(self, message: Message, into: Tensor, wire: Wire) -> Sparse:
        """Cut, send to the owners, sum, keep the largest, gather."""
        indices, order = message.indices.to(torch.int64).sort()
        values = message.values[order]
        bounds = _bounds(indices, message.numel, wire)
        cuts = torch.searchsorted(indices, bounds).diff(
            prepend=bounds.new_zeros(1), append=bounds.new_full((1,), len(indices))
        )
        parts = zip(values.split(cuts.tolist()), indices.split(cuts.tolist()), strict=True)
        arrived = [unpack(p, values.dtype) for p in wire.all_to_all([pack(v, i) for v, i in parts])]

        sums, owned = summed(*arrived)
        quota = -(-message.k // wire.world)
        kept, where, *rest = largest(sums, owned, quota)
        missing = quota - len(kept)  # zeros at index 0 fill what is gathered
        packed = pack(torch.cat([kept, kept.new_zeros(missing)]), torch.cat([where, where.new_zeros(missing)]))
        for row in wire.all_gather(packed):
            some, there = unpack(row, values.dtype)
            into.index_add_(0, there, some.div_(wire.world))
        return Sparse(*rest, torch.Size([message.numel]))


def _bounds(indices: Tensor, numel: int, wire: Wire) -> Tensor:
    """First indices of the parts of ranks 1..P-1; the same on all ranks."""
    inner = torch.arange(1, wire.world, device=indices.device)
    own = indices[inner * len(indices) // wire.world] if len(indices) else inner * numel // wire.world
    return wire.all_reduce(own) // wire.world
