"""The k largest magnitudes of a residual to which a gradient is added: `lowbit::select_largest`.

    x = residual + gradient;   sent = the k entries of largest |x|, the lowest index first among equals
    values, indices = x[sent], sent (ascending);   residual = x with 0 at sent

The reference below is the definition, and what runs on devices and dtypes without a kernel. What a call leaves in
`history` makes the next one faster and changes no result. Ops are declared in a `torch.library.Library` rather than
with `custom_op`, which costs a small layer a fifth of its time in further dispatch; a faster
implementation for a device replaces its `impl` below.
"""

import torch
from torch import Tensor

from lowbit.kernels import _cpu
from lowbit.kernels._cpu import bin_edges
from lowbit.kernels._guess import CALLS, HITS, REFUSED, SAFE, THRESHOLD

__all__ = [
    "CALLS",
    "HITS",
    "REFUSED",
    "SLOTS",
    "THRESHOLD",
    "bin_edges",
    "forget_if_huge",
    "largest_magnitude",
    "select_largest",
    "takes",
]

SLOTS = 7  # of a history: last threshold, what steers the next guess (3), calls, hits, whether the last was refused
RULES = ("log", "log_relative", "float_bits")
NARROW = (torch.float32, torch.float16, torch.bfloat16)  # types whose numbers are float32 numbers

_OPS = torch.library.Library("lowbit", "FRAGMENT")
_OPS.define(
    "select_largest(Tensor? gradient, Tensor(a!) residual, Tensor(b!) history, int k, "
    "int num_bins, float gamma, str rule, bool finite) -> (Tensor, Tensor)"
)
_OPS.define("largest_magnitude(Tensor tensor) -> Tensor")


def reference(gradient: Tensor | None, residual: Tensor, history: Tensor, k: int, *_) -> tuple[Tensor, Tensor]:
    """The definition, in plain torch; arguments and result as of `select_largest`."""
    history[CALLS] += 1
    history[REFUSED] = gradient is not None and not bool((residual + gradient).isfinite().all())
    if history[REFUSED]:
        return residual.new_zeros(k), torch.arange(k, dtype=_index_dtype(residual), device=residual.device)
    if gradient is not None:
        residual.add_(gradient)
    order = residual.abs().sort(descending=True, stable=True).indices
    indices = order[:k].sort().values
    values = residual[indices]
    residual[indices] = 0
    history[THRESHOLD] = values.abs().min()
    return values, indices.to(_index_dtype(residual))


def reference_magnitude(tensor: Tensor) -> Tensor:
    """Maximum of |tensor| in plain torch; 0 for no entries."""
    if tensor.numel() == 0:
        return tensor.new_zeros((), dtype=torch.float64)
    low, high = torch.aminmax(tensor)
    return torch.maximum(-low, high).double()


def select_largest(
    gradient: Tensor | None,
    residual: Tensor,
    history: Tensor,
    k: int,
    *,
    num_bins: int = 1024,
    gamma: float = 1000.0,
    rule: str = "log",
    finite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Add a gradient to a residual, and move the k largest magnitudes out of it.

    When a sum is not finite, `history[REFUSED]` is 1, nothing else has changed, and the result is k zeros at the first
    indices.

    Args:
        gradient: of the size of the residual, of a dtype that `takes` allows, contiguous; None if it was added already.
        residual: contiguous float32 or float64, shape (N,), finite; changed.
        history: what an earlier call on this residual left, or zeros; float64, shape (SLOTS,); changed. Where the
            residual was changed since, see `forget_if_huge`.
        k: in 1..N.
        num_bins: logarithmic bins of the histogram that a first guess, or one that missed, needs on a CPU; on a CUDA
            device it has float-bit bins.
        gamma: of its bins: equal steps of log(1 + gamma |x|).
        rule: `log`; `log_relative`, with gamma / mean|x| for gamma; or `float_bits`, 8 bins an octave of all floats.
        finite: whether the caller knows that every sum is finite. A CUDA device then saves the pass that checks it, and
            what is selected has no meaning where the caller was wrong.

    Returns:
        Values and indices (int32, or int64 from 2^31 entries on), each of shape (k,), ascending by index.
    """
    return _SELECT(gradient, residual, history, k, num_bins, gamma, rule, finite)


def takes(gradient: Tensor, residual: Tensor) -> bool:
    """Whether `select_largest` adds this gradient itself; otherwise the caller does, and gives None."""
    fits = gradient.dtype == residual.dtype or (residual.is_cuda and _has_kernel(residual) and gradient.dtype in NARROW)
    return fits and gradient.is_contiguous()


def largest_magnitude(tensor: Tensor) -> float:
    """Maximum of |tensor|; not finite when an entry is not; 0 for no entries."""
    return float(_LARGEST(tensor))


def forget_if_huge(history: Tensor, entries: Tensor) -> None:
    """Forget the last threshold when entries of the residual, changed since, are so large that sums may overflow.

    A call takes a sum to be finite when neither the largest |gradient| nor the last threshold is huge: whatever a
    selection leaves is at most its threshold, and so is what is put back and not huge by itself. The device is not
    waited for.

    Args:
        history: of the residual, changed.
        entries: of the residual as they are now.
    """
    history[THRESHOLD] *= _LARGEST(entries) < SAFE


def _index_dtype(tensor: Tensor) -> torch.dtype:
    return torch.int32 if tensor.numel() < 2**31 else torch.int64


def _has_kernel(residual: Tensor) -> bool:
    return residual.dtype == torch.float32 and residual.numel() < 2**31


def _demand_memory(gradient, residual, history, k) -> None:
    """Kernels get addresses: what lies there must be what it seems."""
    assert residual.is_contiguous()
    assert history.is_contiguous()
    assert history.dtype == torch.float64
    assert history.device == residual.device
    if gradient is not None:
        assert takes(gradient, residual)
        assert gradient.shape == residual.shape
        assert gradient.device == residual.device
    assert history.numel() >= SLOTS
    assert 1 <= k <= residual.numel()


def _select_on_cpu(gradient, residual, history, k, num_bins, gamma, rule, finite):
    _demand_memory(gradient, residual, history, k)
    if _has_kernel(residual):
        return _cpu.select_largest(gradient, residual, history, k, num_bins, gamma, rule)
    return reference(gradient, residual, history, k)


def _select_on_cuda(gradient, residual, history, k, num_bins, gamma, rule, finite):
    _demand_memory(gradient, residual, history, k)
    if not _has_kernel(residual):
        return reference(gradient, residual, history, k)
    from lowbit.kernels.triton import select  # takes seconds, and nothing needs it without a GPU

    with torch.cuda.device_of(residual):
        return select.select(gradient, residual, history, k, finite)


def _largest_on_cpu(tensor):
    if tensor.dtype == torch.float32 and tensor.is_contiguous():
        return torch.scalar_tensor(_cpu.largest_magnitude(tensor), dtype=torch.float64)
    return reference_magnitude(tensor)


def _largest_on_cuda(tensor):
    if tensor.dtype not in NARROW or not tensor.is_contiguous() or not 0 < tensor.numel() < 2**31:
        return reference_magnitude(tensor)
    from lowbit.kernels.triton import select

    with torch.cuda.device_of(tensor):
        return select.largest_magnitude(tensor)


def _select_shapes(gradient, residual, history, k, num_bins, gamma, rule, finite):
    return residual.new_empty(k), residual.new_empty(k, dtype=_index_dtype(residual))


def _largest_shape(tensor):
    return tensor.new_empty((), dtype=torch.float64)


_OPS.impl("select_largest", _select_on_cpu, "CPU")
_OPS.impl("largest_magnitude", _largest_on_cpu, "CPU")
_OPS.impl("select_largest", _select_on_cuda, "CUDA")
_OPS.impl("largest_magnitude", _largest_on_cuda, "CUDA")
torch.library.register_fake("lowbit::select_largest", _select_shapes, lib=_OPS)
torch.library.register_fake("lowbit::largest_magnitude", _largest_shape, lib=_OPS)
_SELECT = torch.ops.lowbit.select_largest.default
_LARGEST = torch.ops.lowbit.largest_magnitude.default
