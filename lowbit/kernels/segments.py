"""The largest magnitudes of every segment of a flat residual at once: `lowbit::select_largest_of_each`.

A bucket of gradients is one flat tensor, a layer after another. Selecting from each layer apart keeps layers with large
gradients from starving the others; on a CUDA device it takes as many launches as for one layer. The reference, and what
runs on a CPU, is `lowbit.kernels.selection` for one segment after another.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lowbit.kernels import selection

_OPS = torch.library.Library("lowbit", "FRAGMENT")
_OPS.define(
    "select_largest_of_each(Tensor? gradient, Tensor(a!) residual, Tensor(b!) histories, Tensor? layout, "
    "int[] sizes, int[] ks, bool finite) -> (Tensor, Tensor)"
)


@dataclass(frozen=True)
class Segments:
    """How a flat tensor is cut, and how much is selected from each piece.

    Made once for a model, before a CUDA graph is captured: its layout is copied to the device.

    Args:
        sizes: entries of each segment, in order; each below 2^31.
        ks: entries to select from each, in 1..size.
        device: of the tensors.

    Raises:
        ValueError: for other numbers.
    """

    sizes: tuple[int, ...]
    ks: tuple[int, ...]
    device: torch.device

    def __post_init__(self):
        if not len(self.sizes) == len(self.ks) > 0:
            raise ValueError(f"{len(self.sizes)} sizes, {len(self.ks)} ks: must be one each for every segment")
        for place, (size, k) in enumerate(zip(self.sizes, self.ks, strict=True)):
            if not 1 <= k <= size < 2**31:
                raise ValueError(f"segment {place}: k {k} of {size} entries: must be in 1..size, size below 2^31")

    @cached_property
    def layout(self) -> Tensor | None:
        """What CUDA kernels know segments from."""
        if self.device.type != "cuda":
            return None
        from lowbit.kernels.triton import select

        return select.layout_of(self.sizes, self.ks, self.device)


def select_largest_of_each(
    gradient: Tensor | None, residual: Tensor, histories: Tensor, segments: Segments, *, finite: bool = False
) -> tuple[Tensor, Tensor]:
    """Add a gradient to a residual, and move the k largest magnitudes of each segment out of it.

    A segment with a sum that is not finite is refused by itself, as by `selection.select_largest`.

    Args:
        gradient: of the size of the residual, contiguous, of a dtype that `selection.takes` allows; None if it was
            added already.
        residual: contiguous float32 or float64, shape (sum of sizes,), finite; changed.
        histories: what an earlier call left, or zeros; float64, shape (segments, SLOTS); changed.
        segments: how the residual is cut.
        finite: as of `selection.select_largest`.

    Returns:
        Values, and indices from the beginning of their segment (int32), one segment's after another's; each of
        shape (sum of ks,), ascending by index within a segment.
    """
    return torch.ops.lowbit.select_largest_of_each(
        gradient, residual, histories, segments.layout, segments.sizes, segments.ks, finite
    )


def _one_after_another(select, gradient, residual, histories, sizes, ks):
    parts = residual.split(sizes)
    gradients = [None] * len(parts) if gradient is None else gradient.split(sizes)
    sent = [select(g, r, h, k) for g, r, h, k in zip(gradients, parts, histories, ks, strict=True)]
    return tuple(torch.cat(tensors) for tensors in zip(*sent, strict=True))


def reference(gradient, residual, histories, layout, sizes, ks, *_) -> tuple[Tensor, Tensor]:
    """The definition, in plain torch; arguments and result as of `select_largest_of_each`."""
    return _one_after_another(selection.reference, gradient, residual, histories, sizes, ks)


def _demand_memory(gradient, residual, histories, layout, sizes):
    selection.demand_gradient(gradient, residual)
    selection.demand_history(histories, (len(sizes), selection.SLOTS), residual.device)
    if residual.numel() != sum(sizes):
        raise ValueError(
            f"residual of {residual.numel()} entries: segments have {sum(sizes)}; give Segments of its sizes"
        )
    if layout is not None and layout.device != residual.device:
        raise ValueError(f"segments on {layout.device}, residual on {residual.device}; make Segments for that device")


def _on_cpu(gradient, residual, histories, layout, sizes, ks, finite):
    _demand_memory(gradient, residual, histories, layout, sizes)
    return _one_after_another(selection.select_largest, gradient, residual, histories, sizes, ks)


def _on_cuda(gradient, residual, histories, layout, sizes, ks, finite):
    _demand_memory(gradient, residual, histories, layout, sizes)
    if layout is None:
        raise ValueError(f"segments of the CPU, residual on {residual.device}; make Segments for that device")
    if residual.dtype != torch.float32:
        return reference(gradient, residual, histories, layout, sizes, ks)
    from lowbit.kernels.triton import select

    with torch.cuda.device_of(residual):
        return select.select_of_each(gradient, residual, histories, layout, sizes, ks, finite)


def _shapes(gradient, residual, histories, layout, sizes, ks, finite):
    return residual.new_empty(sum(ks)), residual.new_empty(sum(ks), dtype=torch.int32)


_OPS.impl("select_largest_of_each", _on_cpu, "CPU")
_OPS.impl("select_largest_of_each", _on_cuda, "CUDA")
torch.library.register_fake("lowbit::select_largest_of_each", _shapes, lib=_OPS)
