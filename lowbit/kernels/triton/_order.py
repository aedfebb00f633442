"""Kernels that put the selection in order: count it tile by tile, scan the counts, write it out.

Selected are all magnitudes above FOUND and, of those that equal it, the first NEED. Tiles find theirs among their
candidates, or in the residual where the candidates had no room. What the scan says makes the order that of indices,
whatever order the candidates came in.
"""

import triton
import triton.language as tl

from lowbit.kernels.triton._layout import (
    ABOVE,
    BASE,
    BEGIN,
    CANDIDATES,
    EQUAL,
    FOUND,
    NEED,
    NOTHING,
    NUMBER,
    OUTPUTS,
    RESIDUAL,
    ROOMS,
    SOURCE,
    STATE,
    TIES,
    TILES,
    VARYING,
    length_of,
    magnitude,
    of_layout,
)
from lowbit.kernels.triton._passes import entries_of_tile


@triton.jit
def listed(source, tile, flat, left, begin, residual, values, table, tiles):
    """Where the numbers of a tile that may be selected stand, from which place on, and how many there are."""
    if source == CANDIDATES:
        numbers = values
        place = begin + tl.load(table + BASE * tiles + tile)
        number = tl.load(table + NUMBER * tiles + tile)
    else:
        numbers = residual
        place = flat
        number = tl.where(source == RESIDUAL, left, 0)
    return numbers, place, number


@triton.jit(do_not_specialize=VARYING)
def count(residual, values, table, state, layout, segments, size, tiles, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """How many entries of each tile are larger than FOUND, and how many equal it."""
    lanes = tl.arange(0, WIDTH)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, _, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        own = state + segment * STATE
        found = tl.load(own + FOUND)
        begin = of_layout(ROOMS, segment, layout, segments)
        source = tl.load(own + SOURCE)
        numbers, place, number = listed(source, tile, flat, left, begin, residual, values, table, tiles)
        above = 0
        equal = 0
        for first in range(0, number, WIDTH):
            mask = first + lanes < number
            bits = magnitude(tl.load(numbers + place + first + lanes, mask=mask, other=0.0))
            above += tl.sum(((bits > found) & mask).to(tl.int32), 0)
            equal += tl.sum(((bits == found) & mask).to(tl.int32), 0)
        tl.store(table + ABOVE * tiles + tile, above)
        tl.store(table + EQUAL * tiles + tile, equal)


@triton.jit(do_not_specialize=VARYING)
def scan(table, state, layout, segments, tiles, CHUNK: tl.constexpr):
    """For each tile, how many that equal FOUND are taken, and where its entries go; one program a segment."""
    segment = tl.program_id(0)
    need = tl.load(state + segment * STATE + NEED)
    first = of_layout(TILES, segment, layout, segments).to(tl.int32)
    end = first + length_of(TILES, segment, layout, segments, tiles).to(tl.int32)
    ties = 0
    total = 0
    for chunk in range(first, end, CHUNK):
        tile = chunk + tl.arange(0, CHUNK)
        mask = tile < end
        above = tl.load(table + ABOVE * tiles + tile, mask=mask, other=0)
        equal = tl.load(table + EQUAL * tiles + tile, mask=mask, other=0)
        before = ties + tl.cumsum(equal, 0) - equal
        taken = tl.minimum(tl.maximum(need - before, 0), equal)
        tl.store(table + TIES * tiles + tile, taken, mask=mask)
        tl.store(table + BEGIN * tiles + tile, total + tl.cumsum(above + taken, 0) - above - taken, mask=mask)
        ties += tl.sum(equal, 0)
        total += tl.sum(above + taken, 0)


@triton.jit(do_not_specialize=VARYING)
def emit(
    residual,
    values,
    positions,
    table,
    state,
    kept,
    kept_positions,
    layout,
    segments,
    size,
    k,
    tiles,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the selection, and 0 in its place into the residual; zeros at the first indices when it was refused."""
    lanes = tl.arange(0, WIDTH)
    zeros = tl.zeros((WIDTH,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, start, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        own = state + segment * STATE
        source = tl.load(own + SOURCE)
        output = of_layout(OUTPUTS, segment, layout, segments)
        if source == NOTHING:
            for first in range(0, left, WIDTH):
                here = start + first + lanes
                mask = (first + lanes < left) & (here < length_of(OUTPUTS, segment, layout, segments, k))
                tl.store(kept + output + here, zeros, mask=mask)
                tl.store(kept_positions + output + here, here, mask=mask)
        else:
            found = tl.load(own + FOUND)
            ties = tl.load(table + TIES * tiles + tile)
            output += tl.load(table + BEGIN * tiles + tile)
            begin = of_layout(ROOMS, segment, layout, segments)
            numbers, place, number = listed(source, tile, flat, left, begin, residual, values, table, tiles)
            for first in range(0, number, WIDTH):
                mask = first + lanes < number
                x = tl.load(numbers + place + first + lanes, mask=mask, other=0.0)
                if source == CANDIDATES:
                    here = tl.load(positions + place + first + lanes, mask=mask, other=0)
                else:
                    here = start + first + lanes
                equal = ((magnitude(x) == found) & mask).to(tl.int32)
                tie = (equal != 0) & (tl.cumsum(equal, 0) <= ties)
                taken = (((magnitude(x) > found) & mask) | tie).to(tl.int32)
                to = output + tl.cumsum(taken, 0) - 1
                tl.store(kept + to, x, mask=taken != 0)
                tl.store(kept_positions + to, here, mask=taken != 0)
                tl.store(residual + (flat - start) + here, zeros, mask=taken != 0)
                ties -= tl.sum(equal, 0)
                output += tl.sum(taken, 0)
