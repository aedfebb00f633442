"""What a compressor is: a choice of few entries of a vector, and `Sparse`, what is sent of a gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lowbit.errors import NonFiniteError, UserError
from lowbit.kernels.segments import Segments
from lowbit.kernels.selection import largest_magnitude


class Sparse(NamedTuple):
    """Some entries of a tensor.

    Args:
        values: shape (nnz,).
        indices: where they stand in the flattened tensor, int32 or int64, each at most once, shape (nnz,); None when
            the values are all entries in order.
        shape: of the tensor.
    """

    values: Tensor
    indices: Tensor | None
    shape: torch.Size

    @property
    def numel(self) -> int:
        """Entries of the tensor."""
        return math.prod(self.shape)

    def dense(self) -> Tensor:
        """The tensor, with 0 where nothing was chosen."""
        if self.indices is None:
            return self.values.view(self.shape).clone()
        flat = self.values.new_zeros(self.numel)
        return flat.index_add_(0, self.indices, self.values).view(self.shape)


SelectFromEach = Callable[[Tensor, Tensor, Tensor, Segments], tuple[Tensor, Tensor]]


class Compressor(ABC):
    """Choice of entries of a vector, mostly by magnitude. What it remembers of a vector's past is an argument.

    Attributes:
        exact: whether always k entries are chosen; otherwise k is what it aims at.
        shares_indices: whether all ranks choose the same entries, whatever their gradients.
        slots: numbers of a history. The first is a threshold in units of the vector, or stays 0.
        refused: place in the history of whether the last `select_from` refused a sum that is not finite, where that is
            noted instead of raised, so that a device need not be waited for; None where it raises.
    """

    exact: ClassVar[bool] = False
    shares_indices: ClassVar[bool] = False
    slots: ClassVar[int] = 1
    refused: ClassVar[int | None] = None

    def start(self, name: str = "") -> Tensor:
        """The history of a vector that nothing was chosen from so far; float64, shape (slots,).

        Args:
            name: of the vector, so that random choices differ between vectors.
        """
        return torch.zeros(self.slots, dtype=torch.float64)

    def stats(self, history: Tensor) -> dict[str, float]:
        """What a history counts, by name."""
        return {}

    @abstractmethod
    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor | None:
        """Indices of what is sent.

        Args:
            x: float32 or float64, shape (N,), N > k, finite; not changed.
            k: entries asked for, at least 1.
            history: of this vector, changed.
            latest: what was added to x last, shape (N,); x itself without feedback.

        Returns:
            Each index at most once; None for all.
        """

    def changed(self, entries: Tensor, history: Tensor) -> None:  # noqa: B027
        """Hear that entries of the residual were changed otherwise than by `select_from`.

        Args:
            entries: as they are now.
            history: of the residual, changed where it does not hold for them.
        """

    def select(self, x: Tensor, k: int, history: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Values and indices of what is sent of x, which is not changed; arguments as of `choose`, k from 0 on.

        Raises:
            NonFiniteError: for NaN or infinite entries.
        """
        if not math.isfinite(largest_magnitude(x)):
            raise NonFiniteError(f"{_faults(x)}; skip this step, or lower the learning rate or the loss scale")
        if history is None:
            history = self.start().to(x.device)
        indices = None if k >= x.numel() else self.choose(x, k, history, x)
        return (x.clone() if indices is None else x[indices]), indices

    def joint(self, gradient: Tensor) -> SelectFromEach | None:
        """What selects from several residuals in one call, where that is better than a call for each.

        Args:
            gradient: one of those that would be added; the answer is the same for all that are like it.

        Returns:
            A function of the residuals one after another, a tensor that holds what is added to them, their histories,
            and how these are cut; its result is that of `kernels.segments.select_largest_of_each`. None where every
            residual is selected from by itself.
        """
        return None

    def select_from(self, residual: Tensor, increment: Tensor, k: int, history: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compensate, select and update in one: entries of residual + increment, which are 0 in the residual
        afterwards.

        Args:
            residual: float32 or float64, shape (N,), changed.
            increment: shape (N,), of any float type; not changed.
            k: entries asked for.
            history: of the residual, changed.

        Returns:
            Values, and indices: each at most once, or None for all.

        Raises:
            NonFiniteError: for NaN or infinite entries, also of the sum; then nothing was changed. Where the history
                notes it instead, what is returned are k zeros.
        """
        demand_finite_sum(residual, increment)
        residual.add_(increment)
        indices = None if k >= residual.numel() else self.choose(residual, k, history, increment)
        if indices is None:
            values = residual.clone()
            residual.zero_()
        else:
            values = residual[indices]
            residual[indices] = 0
        return values, indices


def demand_finite(gradient: Tensor) -> float:
    """The largest magnitude of a gradient.

    Raises:
        NonFiniteError: when an entry is NaN or infinite.
    """
    most = largest_magnitude(gradient)
    if not math.isfinite(most):
        raise NonFiniteError(f"{_faults(gradient)}; skip this step, or lower the learning rate or the loss scale")
    return most


def demand_finite_sum(residual: Tensor, increment: Tensor) -> None:
    """Check that residual + increment is finite, and change nothing.

    Raises:
        NonFiniteError: when it is not.
    """
    most = demand_finite(increment)
    near_overflow = most + largest_magnitude(residual) >= 0.5 * torch.finfo(residual.dtype).max
    if near_overflow and not bool((residual + increment).isfinite().all()):
        raise NonFiniteError(
            f"adding a gradient of up to {most:.3g} overflows the residual; clear it, or scale the loss"
        )


def entries_of(density: float, numel: int) -> int:
    """k of a density: max(floor(N density), 1), or 0 of an empty tensor.

    Raises:
        UserError: unless the density is in (0, 1].
    """
    if not 0 < density <= 1:
        raise UserError(f"density {density}: must be in (0, 1], the fraction of entries that is sent")
    return min(numel, max(int(numel * density), 1))


def largest_of(size: Tensor, indices: Tensor, k: int) -> Tensor:
    """At most k of the indices, those of the largest magnitudes."""
    if len(indices) <= k:
        return indices
    return indices[size[indices].topk(k, sorted=False).indices]


def at_least(size: Tensor, threshold: Tensor | float) -> Tensor:
    """Indices of magnitudes from a threshold on."""
    return (size >= threshold).nonzero().flatten()


def _faults(tensor: Tensor) -> str:
    nan, inf = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    return f"{nan} NaN and {inf} infinite entries of {tensor.numel()}"
