"""The k largest magnitudes of a residual to which a gradient is added: `lowbit::select_largest`.

    x = residual + gradient;   sent = the k entries of largest |x|, the lowest index first among equals
    values, indices = x[sent], sent (ascending);   residual = x with 0 at sent

The reference below is the definition, and what runs on devices and dtypes without a kernel. What a call leaves in
`history` makes the next one faster and changes no result. A faster implementation for a device replaces its `impl`
below. To dispatch an op in Python takes longer than to select from a small tensor, and longer still for a `custom_op`:
these ops are declared in a `torch.library.Library`, and plain CPU tensors skip dispatch where nobody looks on.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

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
    select = _select_on_cpu if _is_plain(residual) else _SELECT
    return select(gradient, residual, history, k, num_bins, gamma, rule, finite)


def takes(gradient: Tensor, residual: Tensor) -> bool:
    """Whether `select_largest` adds this gradient itself; otherwise the caller does, and gives None."""
    fits = gradient.dtype == residual.dtype or (residual.is_cuda and _has_kernel(residual) and gradient.dtype in NARROW)
    return fits and gradient.is_contiguous()


def largest_magnitude(tensor: Tensor) -> float:
    """Maximum of |tensor|; not finite when an entry is not; 0 for no entries."""
    if _is_plain(tensor) and _has_cpu_kernel(tensor):
        return _cpu.largest_magnitude(tensor)
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


def _is_plain(tensor: Tensor) -> bool:
    """Whether a call would go to the CPU implementation and nowhere else: no mode sees it, nothing traces it."""
    on_cpu = type(tensor) is Tensor and tensor.is_cpu
    return on_cpu and not (is_in_torch_dispatch_mode() or torch.compiler.is_compiling())


def _index_dtype(tensor: Tensor) -> torch.dtype:
    return torch.int32 if tensor.numel() < 2**31 else torch.int64


def _has_kernel(residual: Tensor) -> bool:
    return residual.dtype == torch.float32 and residual.numel() < 2**31


def _has_cpu_kernel(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.is_contiguous()


def demand_gradient(gradient: Tensor | None, residual: Tensor) -> None:
    """Check that a kernel can add a gradient to a residual: it gets addresses, and what lies there is what it seems.

    Raises:
        ValueError: when it cannot.
    """
    fits = residual.is_contiguous() and residual.ndim == 1
    if gradient is not None:
        fits = fits and takes(gradient, residual) and gradient.shape == residual.shape
        fits = fits and gradient.device == residual.device
    if not fits:
        given = "none" if gradient is None else words(gradient)
        raise ValueError(
            f"gradient {given}, residual {words(residual)}: must be contiguous, of one dimension and shape, on one "
            "device, and of types that `takes` allows; add the gradient first, and give None"
        )


def demand_history(history: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """Check that a history is what a kernel takes it for.

    Raises:
        ValueError: when it is not.
    """
    if history.dtype != torch.float64 or history.shape != shape or history.device != device:
        raise ValueError(
            f"history {words(history)}: must be float64 of shape {shape} on {device}; begin with torch.zeros"
        )
    if not history.is_contiguous():
        raise ValueError(f"history {words(history)}: must be contiguous; give what an earlier call left, or zeros")


def _demand_memory(gradient, residual, history, k) -> None:
    demand_gradient(gradient, residual)
    demand_history(history, (SLOTS,), residual.device)
    if not 1 <= k <= residual.numel():
        raise ValueError(
            f"k {k} of {residual.numel()} entries: must be in 1..N; select nothing or all without a kernel"
        )


def words(tensor: Tensor) -> str:
    """What a tensor is, for an error."""
    strides = "" if tensor.is_contiguous() else f" with strides {tensor.stride()}"
    return f"{tensor.dtype} {tuple(tensor.shape)}{strides} on {tensor.device}"


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
    if _has_cpu_kernel(tensor):
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
