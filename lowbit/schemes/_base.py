"""What a scheme is, and the message that it is given."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lowbit.compressors import Sparse
from lowbit.schemes._wire import Wire


class Message(NamedTuple):
    """What one rank sends of a vector.

    Args:
        values: float32 or float64, shape (nnz,).
        indices: where they stand, int32 or int64, each at most once, shape (nnz,).
        numel: N, entries of the vector; the same on all ranks.
        k: entries asked for; the same on all ranks.
        even: whether every rank sends exactly k.
    """

    values: Tensor
    indices: Tensor
    numel: int
    k: int
    even: bool

    def dense(self) -> Tensor:
        """The vector, with 0 where nothing is sent."""
        return self.values.new_zeros(self.numel).index_add_(0, self.indices, self.values)


class Scheme(ABC):
    """Way of a message from every rank to the mean on every rank.

    Sums are taken in the order of ranks, or in one place, or by a collective that leaves the same bits everywhere: what
    is added is bit-identical on all ranks.

    Attributes:
        shared: whether all ranks must choose the same indices.
    """

    shared: ClassVar[bool] = False

    @abstractmethod
    def exchange(self, message: Message, into: Tensor, wire: Wire) -> Sparse | None:
        """Add the mean over ranks of what they send.

        Args:
            message: of this rank; not changed.
            into: shape (N,), dtype of the values; changed.
            wire: to the other ranks.

        Returns:
            What is in no rank's mean and is for this rank to keep, in units of what it sent; None for nothing. Sent
            values are together P times the mean and what is kept, up to rounding.
        """


def dense_mean(flat: Tensor, wire: Wire, dtype: torch.dtype | None = None) -> Tensor:
    """The mean over ranks, in place: divided, rounded to a dtype and summed, as PyTorch's own hooks do.

    Args:
        flat: any floating dtype.
        wire: to the other ranks.
        dtype: on the wire; None for that of the tensor.
    """
    sent = flat if dtype is None or dtype == flat.dtype else flat.to(dtype)
    wire.all_reduce(sent.div_(wire.world))
    return flat if sent is flat else flat.copy_(sent)


def pack(values: Tensor, indices: Tensor) -> Tensor:
    """One int32 vector: the bits of the values, then the indices."""
    return torch.cat([values.view(torch.int32), indices.to(torch.int32)])


def unpack(packed: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values of a dtype and int32 indices, of what `pack` gave."""
    width = dtype.itemsize // 4
    count = len(packed) // (width + 1)
    return packed[: width * count].clone().view(dtype), packed[width * count :]


def summed(*entries: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Values and int64 indices of the sum of some entries, each index once; added in the order given."""
    indices, places = torch.cat([i.long() for _, i in entries]).unique(return_inverse=True)
    values = entries[0][0].new_zeros(len(indices))
    for (some, _), there in zip(entries, places.split([len(i) for _, i in entries]), strict=True):
        values.index_add_(0, there, some)
    return values, indices


def largest(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values and indices of the k largest magnitudes, then those of the others."""
    if len(values) <= k:
        return values, indices, values[:0], indices[:0]
    kept = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    kept[values.abs().topk(k, sorted=False).indices] = True
    return values[kept], indices[kept], values[~kept], indices[~kept]
