"""Bytes of memory that a call moves, counted while its kernels run in Triton's interpreter.

Every load, store and atomic of the kernels is seen, with its mask: what counts is what is really read and written, not
what was meant to be. A GPU moves sectors of 32 bytes, so that k scattered writes cost up to eight times what they count
here. Triton is imported by functions alone: `TRITON_INTERPRET` has to stand in the environment of a new process first.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from torch import Tensor

SIZE, DENSITY = 1 << 16, 0.01
ROUTES = {"no guess": 1.0, "right guess": 1.0, "wrong guess": 1000.0, "refused": float("nan")}  # and gradients for them
TOPK = 12 + 8 + 5 * 4  # add, |x|, and torch.topk: a pass over float32 for each of 4 digits of 8 bits, one that gathers
FLOOR = 12  # residual.add_(gradient)


class Traffic(NamedTuple):
    """Of one kernel in one call.

    Args:
        route: one of ROUTES.
        kernel: its name.
        dense_bytes: of gradient and residual, an entry.
        other_bytes: of candidates, tables, histograms, state and outputs, an entry.
    """

    route: str
    kernel: str
    dense_bytes: float
    other_bytes: float


def interpreting_process() -> ProcessPoolExecutor:
    """A new process in which `count` can run."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_interpret)


def count(dtype: torch.dtype = torch.float32, finite: bool = False, size: int = SIZE) -> list[Traffic]:
    """Traffic of calls that take each route; nothing is refused where sums are known to be finite.

    Args:
        dtype: of the gradient; the residual is float32.
        finite: as of `lowbit.kernels.selection.select_largest`.
        size: entries.
    """
    from lowbit.kernels import selection
    from lowbit.kernels.triton import select
    from lowbit.kernels.triton.interpreted import keep_interpreting

    keep_interpreting()
    residual, history = torch.zeros(size), torch.zeros(selection.SLOTS, dtype=torch.float64)
    normal = torch.randn(size, generator=torch.Generator().manual_seed(0))
    found = []
    for route, scale in ROUTES.items():
        if finite and route == "refused":
            continue
        gradient, hits = (scale * normal).to(dtype), float(history[selection.HITS])
        residual.zero_()
        with metered([gradient, residual]) as (launch, dense, other):
            select.select(gradient, residual, history, int(size * DENSITY), finite, launch=launch)
        assert float(history[selection.HITS]) - hits == (route == "right guess")
        found += [Traffic(route, name, dense[name] / size, other[name] / size) for name in other]
    return found


@contextmanager
def metered(tensors: list[Tensor]) -> Iterator[tuple[Any, Counter, Counter]]:
    """A launcher, and what kernels that it launches move: bytes of these tensors, and of all others, by kernel."""
    from triton.runtime.interpreter import interpreter_builder as builder

    from lowbit.kernels.triton import select

    dense, other, running = Counter(), Counter(), [""]
    ranges = [(t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors]

    def launch(kernel: Any, *arguments: Any, **settings: Any) -> None:
        running[0] = kernel.__name__
        select.launch(kernel, *arguments, **settings)

    def seen(method: Any, mask_at: int, accesses: int) -> Any:
        def counted(*arguments: Any) -> Any:
            pointers, mask = arguments[0 if mask_at < 3 else 1], arguments[mask_at]
            addresses = pointers.data[mask.data]
            inside = bool(len(addresses)) and any(low <= addresses[0] < high for low, high in ranges)
            width = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
            (dense if inside else other)[running[0]] += accesses * addresses.size * width
            return method(*arguments)

        return counted

    places = {"create_masked_load": (1, 1), "create_masked_store": (2, 1), "create_atomic_rmw": (3, 2)}
    for name, how in places.items():
        setattr(builder, name, seen(getattr(builder, name), *how))
    try:
        yield launch, dense, other
    finally:
        for name in places:
            delattr(builder, name)


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
