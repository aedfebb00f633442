"""The largest magnitudes of every segment of a flat residual at once: `lowbit::select_largest_of_each`.

A bucket of gradients is one flat tensor, a layer after another, others between them. Selecting from each layer apart
keeps layers with large gradients from starving the others; on a CUDA device it takes as many launches as for one layer.
The reference, and what runs on a CPU, is `lowbit.kernels.selection` for one segment after another.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lowbit.kernels import selection

_OPS = torch.library.Library("lowbit", "FRAGMENT")
_OPS.define(
    "select_largest_of_each(Tensor? gradient, Tensor(a!) residual, Tensor(b!) histories, Tensor? layout, "
    "int[] sizes, int[] ks, int[]? begins, bool finite) -> (Tensor, Tensor)"
)


@dataclass(frozen=True)
class Segments:
    """How a flat tensor is cut, and how much is selected from each piece.

    Made once for a model, before a CUDA graph is captured: its layout is copied to the device.

    Args:
        sizes: entries of each segment, in order; each below 2^31.
        ks: entries to select from each, in 1..size.
        device: of the tensors.
        begins: where the gradient of each segment begins in the tensor that holds them; None for one after another, as
            in the residual.

    Raises:
        ValueError: for other numbers.
    """

    sizes: tuple[int, ...]
    ks: tuple[int, ...]
    device: torch.device
    begins: tuple[int, ...] | None = None

    def __post_init__(self):
        if not len(self.sizes) == len(self.ks) > 0:
            raise ValueError(f"{len(self.sizes)} sizes, {len(self.ks)} ks: must be one each for every segment")
        if self.begins is not None and (len(self.begins) != len(self.sizes) or min(self.begins) < 0):
            raise ValueError(f"begins {self.begins} of {len(self.sizes)} segments: must be one each, at least 0")
        for place, (size, k) in enumerate(zip(self.sizes, self.ks, strict=True)):
            if not 1 <= k <= size < 2**31:
                raise ValueError(f"segment {place}: k {k} of {size} entries: must be in 1..size, size below 2^31")

    @cached_property
    def layout(self) -> Tensor | None:
        """What CUDA kernels know segments from."""
        if self.device.type != "cuda":
            return None
        from lowbit.kernels.triton import select

        return select.layout_of(self.sizes, self.ks, self.device, self.begins)


def one_launch(gradient: Tensor) -> bool:
    """Whether all segments of gradients on this device take as many launches as one; each of less than 2^31 entries."""
    return gradient.is_cuda and gradient.numel() < 2**31


def select_largest_of_each(
    gradient: Tensor | None, residual: Tensor, histories: Tensor, segments: Segments, *, finite: bool = False
) -> tuple[Tensor, Tensor]:
    """Add a gradient to a residual, and move the k largest magnitudes of each segment out of it.

    A segment with a sum that is not finite is refused by itself, as by `selection.select_largest`.

    Args:
        gradient: contiguous, of a dtype that `selection.takes` allows, and of the size of the residual or, where
            segments say where gradients begin, large enough; None if it was added already.
        residual: contiguous float32 or float64, shape (sum of sizes,), finite; changed.
        histories: what an earlier call left, or zeros; float64, shape (segments, SLOTS); changed.
        segments: how the residual is cut.
        finite: as of `selection.select_largest`.

    Returns:
        Values, and indices from the beginning of their segment (int32), one segment's after another's; each of
        shape (sum of ks,), ascending by index within a segment.
    """
    return torch.ops.lowbit.select_largest_of_each(
        gradient, residual, histories, segments.layout, segments.sizes, segments.ks, segments.begins, finite
    )


def _one_after_another(select, gradient, residual, histories, sizes, ks, begins):
    parts = residual.split(sizes)
    gradients = [None] * len(parts) if gradient is None else _gradients(gradient, sizes, begins)
    sent = [select(g, r, h, k) for g, r, h, k in zip(gradients, parts, histories, ks, strict=True)]
    return tuple(torch.cat(tensors) for tensors in zip(*sent, strict=True))


def _gradients(gradient, sizes, begins):
    if begins is None:
        return gradient.split(sizes)
    return [gradient[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]


def reference(gradient, residual, histories, layout, sizes, ks, begins=None, *_) -> tuple[Tensor, Tensor]:
    """The definition, in plain torch; arguments and result as of `select_largest_of_each`."""
    return _one_after_another(selection.reference, gradient, residual, histories, sizes, ks, begins)


def _demand_memory(gradient, residual, histories, layout, sizes, begins):
    if gradient is None or begins is None:
        selection.demand_gradient(gradient, residual)
    else:
        selection.demand_gradient(None, residual)
        end = max(map(sum, zip(begins, sizes, strict=True)))
        held = selection.takes(gradient, residual) and gradient.device == residual.device
        if not held or gradient.ndim != 1 or end > gradient.numel():
            raise ValueError(
                f"gradient {selection.words(gradient)}, residual {selection.words(residual)}, segments end at {end}: "
                "must be contiguous, of one dimension, on one device, of types that `takes` allows, and hold them"
            )
    selection.demand_history(histories, (len(sizes), selection.SLOTS), residual.device)
    if residual.numel() != sum(sizes):
        raise ValueError(
            f"residual of {residual.numel()} entries: segments have {sum(sizes)}; give Segments of its sizes"
        )
    if layout is not None and layout.device != residual.device:
        raise ValueError(f"segments on {layout.device}, residual on {residual.device}; make Segments for that device")


def _on_cpu(gradient, residual, histories, layout, sizes, ks, begins, finite):
    _demand_memory(gradient, residual, histories, layout, sizes, begins)
    return _one_after_another(selection.select_largest, gradient, residual, histories, sizes, ks, begins)


def _on_cuda(gradient, residual, histories, layout, sizes, ks, begins, finite):
    _demand_memory(gradient, residual, histories, layout, sizes, begins)
    if layout is None:
        raise ValueError(f"segments of the CPU, residual on {residual.device}; make Segments for that device")
    if residual.dtype != torch.float32:
        return reference(gradient, residual, histories, layout, sizes, ks, begins)
    from lowbit.kernels.triton import select

    with torch.cuda.device_of(residual):
        return select.select_of_each(gradient, residual, histories, layout, sizes, ks, finite)


def _shapes(gradient, residual, histories, layout, sizes, ks, begins, finite):
    return residual.new_empty(sum(ks)), residual.new_empty(sum(ks), dtype=torch.int32)


_OPS.impl("select_largest_of_each", _on_cpu, "CPU")
_OPS.impl("select_largest_of_each", _on_cuda, "CUDA")
torch.library.register_fake("lowbit::select_largest_of_each", _shapes, lib=_OPS)
