"""Kernels that pass over all entries of flat tensors: largest magnitude, histogram of a digit, candidates.

Programs share tiles: each takes every so many-th. No kernel does more than one pass, and each leaves at once what the
state says is not needed: control flow stays on the device.
"""

import triton
import triton.language as tl

from lowbit.kernels import _guess
from lowbit.kernels.triton._layout import (
    ADD,
    BASE,
    CANDIDATES,
    CAUGHT,
    ENTRIES,
    FLOOR,
    FOUND,
    GATHER,
    GRADIENTS,
    MOST,
    NUMBER,
    OUTPUTS,
    RESIDUAL,
    ROOMS,
    SOURCE,
    STATE,
    SUM,
    TILES,
    VARYING,
    WORK,
    float32_at,
    length_of,
    magnitude,
    of_layout,
    segment_of,
)

SLOTS = tl.constexpr(_guess.REFUSED + 1)
THRESHOLD = tl.constexpr(_guess.THRESHOLD)


@triton.jit
def entries_of_tile(tile, layout, segments, size, BLOCK: tl.constexpr):
    """Segment of a tile, where the tile begins in the segment and in flat tensors, and its number of entries."""
    segment = segment_of(tile, layout, segments)
    start = tl.cast(tile, tl.int64) * BLOCK
    flat = start  # tensors of several segments may have 2^31 entries and more, though no segment has
    if layout is not None:
        start -= of_layout(TILES, segment, layout, segments) * BLOCK
        flat = start + of_layout(ENTRIES, segment, layout, segments)
    tl.static_assert(flat.dtype == tl.int64)
    left = tl.minimum(length_of(ENTRIES, segment, layout, segments, size) - start, BLOCK).to(tl.int32)
    return segment, start.to(tl.int32), flat, left


@triton.jit
def gradient_of_tile(segment, start, flat, layout, segments):
    """Where the gradient of a tile begins, of which the others are those that `entries_of_tile` gives."""
    place = flat
    if layout is not None:
        place = of_layout(GRADIENTS, segment, layout, segments) + start
    return place


@triton.jit
def source_of_first_digit(own, k, room, ADDS: tl.constexpr):
    """Where the first digit is searched: among the candidates of a right guess, or in all entries, added up or not."""
    caught = tl.load(own + CAUGHT)
    guessed = tl.load(own + WORK) != 0
    right = guessed & (caught >= k) & (caught <= room)
    rest = tl.where(guessed, RESIDUAL, SUM if ADDS else RESIDUAL)
    return tl.where(right, CANDIDATES, rest)


@triton.jit(do_not_specialize=VARYING)
def largest(gradient, history, state, layout, segments, size, tiles, BLOCK: tl.constexpr):
    """Largest |gradient| of each segment that has a threshold to guess from; of each, without a history."""
    lanes = tl.arange(0, BLOCK)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, start, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        wanted = True
        if history is not None:
            wanted = tl.load(history + segment * SLOTS + THRESHOLD) > 0
        if wanted:
            place = gradient_of_tile(segment, start, flat, layout, segments)
            bits = magnitude(float32_at(gradient + place + lanes, lanes < left))
            tl.atomic_max(state + segment * STATE + MOST, tl.max(bits, 0), sem="relaxed")


@triton.jit(do_not_specialize=VARYING)
def collect(
    gradient, residual, values, positions, table, state, layout, segments, size, room, tiles, BLOCK: tl.constexpr
):
    """Add the gradient to the residual, and note what is as large as FLOOR, as the state's WORK says.

    Candidates of a tile stand together, in order; tiles come in any order. The table says where, and how many.
    """
    lanes = tl.arange(0, BLOCK)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, start, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        own = state + segment * STATE
        work = tl.load(own + WORK)
        if work != 0:
            mask = lanes < left
            x = tl.load(residual + flat + lanes, mask=mask, other=0.0)
            if gradient is not None:  # decided by the compiler, unlike what follows  # noqa: SIM102
                if (work & ADD) != 0:
                    place = gradient_of_tile(segment, start, flat, layout, segments)
                    x += float32_at(gradient + place + lanes, mask)
                    tl.store(residual + flat + lanes, x, mask=mask)
            if (work & GATHER) != 0:
                large = ((magnitude(x) >= tl.load(own + FLOOR)) & mask).to(tl.int32)
                number = tl.sum(large, 0)
                if number > 0:
                    base = tl.atomic_add(own + CAUGHT, number, sem="relaxed")
                    rank = base + tl.cumsum(large, 0) - large
                    own_room = length_of(ROOMS, segment, layout, segments, room)
                    fits = (large != 0) & (rank < own_room)
                    begin = of_layout(ROOMS, segment, layout, segments)
                    tl.store(values + begin + rank, x, mask=fits)
                    tl.store(positions + begin + rank, start + lanes, mask=fits)
                    tl.store(table + BASE * tiles + tile, base)
                tl.store(table + NUMBER * tiles + tile, number)


@triton.jit(do_not_specialize=VARYING)
def histogram(
    gradient,
    residual,
    values,
    counts,
    state,
    layout,
    segments,
    size,
    k,
    room,
    tiles,
    SHIFT: tl.constexpr,
    BINS: tl.constexpr,
    FIRST: tl.constexpr,
    FINITE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count the values of a digit of magnitudes: bits from SHIFT on, of entries whose higher bits are those of FOUND.

    The source is what the state says, or, for the first digit, what follows from the guess. Sums that are known to be
    finite are stored at once.
    """
    lanes = tl.arange(0, BLOCK)
    bins = tl.arange(0, BINS)
    seen = tl.zeros((BINS,), tl.int32)
    last = 0
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, start, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        if layout is not None:
            if segment != last:
                tl.atomic_add(counts + last * BINS + bins, seen, mask=seen > 0, sem="relaxed")
                seen = tl.zeros((BINS,), tl.int32)
            last = segment
        own = state + segment * STATE
        if FIRST:
            own_k = length_of(OUTPUTS, segment, layout, segments, k)
            own_room = length_of(ROOMS, segment, layout, segments, room)
            source = source_of_first_digit(own, own_k, own_room, gradient is not None)
        else:
            source = tl.load(own + SOURCE)
        if source == CANDIDATES:
            left = tl.load(own + CAUGHT) - start
            begin = of_layout(ROOMS, segment, layout, segments) + start
            if left > 0:
                bits = magnitude(tl.load(values + begin + lanes, mask=lanes < left, other=0.0))
                seen += of_digit(bits, lanes < left, own, SHIFT, BINS, FIRST)
        elif (source == RESIDUAL) | (source == SUM):
            mask = lanes < left
            x = tl.load(residual + flat + lanes, mask=mask, other=0.0)
            if gradient is not None:  # noqa: SIM102
                if source == SUM:
                    place = gradient_of_tile(segment, start, flat, layout, segments)
                    x += float32_at(gradient + place + lanes, mask)
                    if FINITE:
                        tl.store(residual + flat + lanes, x, mask=mask)
            seen += of_digit(magnitude(x), mask, own, SHIFT, BINS, FIRST)
    tl.atomic_add(counts + last * BINS + bins, seen, mask=seen > 0, sem="relaxed")


@triton.jit
def of_digit(bits, mask, own, SHIFT: tl.constexpr, BINS: tl.constexpr, FIRST: tl.constexpr):
    """Histogram of a digit in one tile."""
    if not FIRST:
        mask = mask & (((bits ^ tl.load(own + FOUND)) >> SHIFT) // BINS == 0)
    return tl.histogram((bits >> SHIFT) & (BINS - 1), BINS, mask=mask)
