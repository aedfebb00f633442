"""What a call costs beside time: memory, passes over a tensor, and answers that the host waits for."""

import tracemalloc
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_HOST_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")
_OF_INDICES = ("index", "index_put_", "index_select", "gather", "take", "index_fill_", "index_add_")
_WRITE_ALONE = ("fill_", "zero_", "copy_")


def peak_bytes(work: Callable[[], object]) -> int:
    """Bytes that PyTorch and NumPy take at most during a call, beyond what they had.

    Args:
        work: called twice, once for each meter: PyTorch's profiler would be metered by Python's.
    """
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    work()
    in_numpy = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most + in_numpy


class Traffic(TorchDispatchMode):
    """Counts what operations read and write while it is entered: their operands, which is the least they can move.

    Args:
        size: entries of a tensor from which on an operation is a pass over it.

    Attributes:
        passes: operations with an operand of that size.
        bytes: of all operands; of an operation that takes entries by index, of those entries.
        host_waits: operations whose result, or its size, the host must know.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size, self.passes, self.bytes, self.host_waits = size, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        self.host_waits += name in _HOST_WAITS
        read = [] if name in _WRITE_ALONE[:2] else _tensors((args, kwargs))
        if name == "copy_":
            read = _tensors(args[1:])
        written = [] if func.is_view else _tensors(result)
        for place, argument in enumerate(func._schema.arguments):
            alias = argument.alias_info
            changed = args[place] if place < len(args) else (kwargs or {}).get(argument.name)
            if alias is not None and alias.is_write and isinstance(changed, Tensor):
                written = [t for t in written if t is not changed] + [changed]
        if func.is_view or name.startswith(("empty", "new_empty", "detach")):
            return result
        if name in _OF_INDICES:
            read, written = _of_indices(read), _of_indices(written) or written
        moved = read + written
        self.bytes += sum(t.numel() * t.element_size() for t in moved)
        self.passes += any(t.numel() >= self.size for t in moved)
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _of_indices(tensors: list[Tensor]) -> list[Tensor]:
    """Without the tensor that entries are taken from or put into: the largest."""
    if len(tensors) < 2:
        return []
    largest = max(range(len(tensors)), key=lambda i: tensors[i].numel())
    return tensors[:largest] + tensors[largest + 1 :]
