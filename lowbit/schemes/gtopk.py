"""Global top-k by a tree: two messages become the k largest entries of their sum, until one is left.

    round d = 1, 2, 4, ..:  rank r with r mod 2 d = d sends (values, indices) to rank r - d, which keeps the k largest
    magnitudes of the sum;  then down the same tree.   At most log2 P times k values and indices in a row, each way

What a merge leaves out stays with the rank that merged. For any number of ranks, not only powers of two.

**Differs from the paper**: there each rank takes back its own entries that are not in the result, which loses what was
dropped by a merge at an index that another branch brought to the result; here the dropped sum is kept whole, where it
was dropped. k is that of the whole message.

**Reference**: S. Shi, Q. Wang, K. Zhao, Z. Tang, Y. Wang, X. Huang, X. Chu, A Distributed Synchronous SGD Algorithm
with Global Top-k Sparsification for Low Bandwidth Networks, 2019, arXiv 1901.04359.
"""

import torch
from torch import Tensor

from lowbit.compressors import Sparse
from lowbit.schemes._base import Message, Scheme, largest, pack, summed, unpack
from lowbit.schemes._wire import Wire
from lowbit.variant import variant


@variant
class GTopK(Scheme):
    """The k largest sums that a tree of merges finds."""

    def exchange(self, message: Message, into: Tensor, wire: Wire) -> Sparse:
        """Up to rank 0 and down again."""
        values, indices = message.values, message.indices.to(torch.int32)
        dropped = [(values[:0], indices[:0])]
        distances = [1 << d for d in range((wire.world - 1).bit_length())]
        for distance in distances:
            place = wire.rank % (2 * distance)
            if place == distance:
                _send(wire, message, values, indices, wire.rank - distance)
            elif place == 0 and wire.rank + distance < wire.world:
                arrived = _receive(wire, message, wire.rank + distance)
                values, indices, *rest = largest(*summed((values, indices), arrived), message.k)
                dropped.append(tuple(rest))
        for distance in reversed(distances):
            place = wire.rank % (2 * distance)
            if place == distance:
                values, indices = _receive(wire, message, wire.rank - distance)
            elif place == 0 and wire.rank + distance < wire.world:
                _send(wire, message, values, indices, wire.rank + distance)
        into.index_add_(0, indices, values / wire.world)
        return Sparse(*summed(*dropped), torch.Size([message.numel]))


def _send(wire: Wire, message: Message, values: Tensor, indices: Tensor, to: int) -> None:
    packed = pack(values, indices)
    if not message.even:
        wire.send(torch.tensor([len(packed)], device=packed.device), to)
    wire.send(packed, to)


def _receive(wire: Wire, message: Message, sender: int) -> tuple[Tensor, Tensor]:
    dtype, device = message.values.dtype, message.values.device
    length = message.k * (dtype.itemsize // 4 + 1)
    if not message.even:
        length = int(wire.receive(torch.empty(1, dtype=torch.int64, device=device), sender))
    return unpack(wire.receive(torch.empty(length, dtype=torch.int32, device=device), sender), dtype)
