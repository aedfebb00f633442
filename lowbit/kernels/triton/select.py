"""`lowbit::select_largest` and `lowbit::largest_magnitude` on a CUDA device: which kernels are launched, in what order.

    largest, guess     4 bytes an entry: is the gradient finite; a floor a little below the last threshold
    collect           12 bytes an entry, with a guess: add, and gather candidates from the floor on
    histogram, pick    8 bytes an entry without a guess, 4 after one that missed: the bin of the k-th largest
    collect           12 or 4 bytes an entry, likewise: only now is anything written, if every sum is finite
    histogram, pick   twice more: the other digits, among the candidates
    count, scan, emit  the selection, ascending by index

All launches are made at every call, and what is not needed leaves at once, as the state on the device says: nothing is
read back, sizes of allocations follow from N and k alone, and a call can be captured in a CUDA graph. Bins are
float-bit bins whatever the rule: they need no pass for the largest magnitude, and change no result.

Where the caller knows that all sums are finite, nothing is checked: no `largest`, and the histogram without a guess
stores the sums, which makes it 12 bytes an entry, and `collect` after it 4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from lowbit.kernels.triton import _order, _passes, _steps
from lowbit.kernels.triton._layout import MOST, STATE, TABLE

TILE = 4096  # entries
WARPS = 8  # of a program that works on tiles: 16 entries a thread
PROGRAMS = 1024  # at most: a few for each multiprocessor
CHUNK = 1024  # tiles that are scanned at once
WIDTH = 512  # candidates of a tile that are looked at at once
SPARE = 1024  # candidates that there is room for beyond 4 k
DIGITS = ((20, 2048), (10, 1024), (0, 1024))  # shift and number of bins of each digit of a magnitude's 31 bits

Launch = Callable[..., None]


def launch(kernel: Any, programs: int, *arguments: Any, **settings: Any) -> None:
    """Start a kernel on the current stream."""
    kernel[(programs,)](*arguments, **settings)


def room_for(size: int, k: int) -> int:
    """Candidates that there is room for, of a segment."""
    return min(size, 4 * k + SPARE)


def layout_of(
    sizes: Sequence[int], ks: Sequence[int], device: torch.device, begins: Sequence[int] | None = None
) -> Tensor:
    """Where the tiles, entries, outputs, candidates and gradient of each segment begin; int64, shape (5, segments + 1).

    Gradients begin where `begins` says; like entries, one after another, without it.
    """
    lengths = [[triton.cdiv(n, TILE), n, k, room_for(n, k)] for n, k in zip(sizes, ks, strict=True)]
    rows = torch.tensor([[0, 0, 0, 0], *lengths]).cumsum(0).t()
    gradients = rows[1] if begins is None else torch.tensor([*begins, 0])
    return torch.cat([rows, gradients[None]]).to(device)


def select(
    gradient: Tensor | None,
    residual: Tensor,
    history: Tensor,
    k: int,
    finite: bool = False,
    launch: Launch = launch,
) -> tuple[Tensor, Tensor]:
    """As `lowbit.kernels.selection.select_largest`, for a contiguous float32 residual of less than 2^31 entries.

    The gradient may be of any float type that float32 contains.
    """
    size = residual.numel()
    tiles, room = triton.cdiv(size, TILE), room_for(size, k)
    return _select(gradient, residual, history, None, 1, size, k, room, tiles, k, finite, launch)


def select_of_each(
    gradient: Tensor | None,
    residual: Tensor,
    histories: Tensor,
    layout: Tensor,
    sizes: Sequence[int],
    ks: Sequence[int],
    finite: bool = False,
    launch: Launch = launch,
) -> tuple[Tensor, Tensor]:
    """As `lowbit.kernels.segments.select_largest_of_each`: the same launches, whatever the number of segments."""
    room = sum(room_for(n, k) for n, k in zip(sizes, ks, strict=True))
    tiles = sum(triton.cdiv(n, TILE) for n in sizes)
    return _select(gradient, residual, histories, layout, len(sizes), 0, 0, room, tiles, sum(ks), finite, launch)


def _select(
    gradient: Tensor | None,
    residual: Tensor,
    history: Tensor,
    layout: Tensor | None,
    segments: int,
    size: int,
    k: int,
    room: int,
    tiles: int,
    kept: int,
    finite: bool,
    launch: Launch,
) -> tuple[Tensor, Tensor]:
    ints, floats = ({"dtype": dtype, "device": residual.device} for dtype in (torch.int32, torch.float32))
    most_bins = segments * max(bins for _, bins in DIGITS)
    scratch = torch.zeros(most_bins + segments * STATE.value, **ints)
    counts, state = scratch[:most_bins], scratch[most_bins:]
    found, places = torch.empty(room, **floats), torch.empty(room, **ints)
    values, indices = torch.empty(kept, **floats), torch.empty(kept, **ints)
    table = torch.empty(TABLE * tiles, **ints)
    programs, where = min(tiles, PROGRAMS), (layout, segments)
    of_tiles = {"BLOCK": TILE, "num_warps": WARPS}
    of_candidates = {"WIDTH": WIDTH, "BLOCK": TILE, "num_warps": WARPS // 2}

    def collect() -> None:
        given = gradient, residual, found, places, table, state
        launch(_passes.collect, programs, *given, *where, size, room, tiles, **of_tiles)

    if gradient is not None and not finite:
        launch(_passes.largest, programs, gradient, history, state, *where, size, tiles, **of_tiles)
    launch(_steps.guess, segments, history, state, ADDS=gradient is not None, num_warps=1)
    collect()
    for shift, bins in DIGITS:
        first = (shift, bins) == DIGITS[0]
        added = gradient if first else None
        digit = {"SHIFT": shift, "BINS": bins, "FIRST": first, "FINITE": finite and first}
        launch(
            *(_passes.histogram, programs, added, residual, found, counts, state, *where, size, k, room, tiles),
            **(digit | of_tiles),
        )
        launch(_steps.pick, segments, history, counts, state, *where, k, room, **digit, ADDS=added is not None)
        if first:
            collect()
    launch(_order.count, programs, residual, found, table, state, *where, size, tiles, **of_candidates)
    launch(_order.scan, segments, table, state, *where, tiles, CHUNK=CHUNK)
    given = residual, found, places, table, state, values, indices
    launch(_order.emit, programs, *given, *where, size, k, tiles, **of_candidates)
    return values, indices


def largest_magnitude(tensor: Tensor, launch: Launch = launch) -> Tensor:
    """Maximum of |tensor|, contiguous float32, float16 or bfloat16; float64, no dimensions."""
    state = torch.zeros(STATE.value, dtype=torch.int32, device=tensor.device)
    size, tiles = tensor.numel(), triton.cdiv(tensor.numel(), TILE)
    launch(
        _passes.largest, min(tiles, PROGRAMS), tensor, None, state, None, 1, size, tiles, BLOCK=TILE, num_warps=WARPS
    )
    return state.view(torch.float32)[MOST.value].double()
