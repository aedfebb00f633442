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
def chosen_from(source, tile, flat, left, begin, residual, values, table, tiles, lanes):
    """Numbers of a tile that may be selected, and which lanes have one."""
    if source == CANDIDATES:
        mask = lanes < tl.load(table + NUMBER * tiles + tile)
        x = tl.load(values + begin + tl.load(table + BASE * tiles + tile) + lanes, mask=mask, other=0.0)
    else:
        mask = (lanes < left) & (source == RESIDUAL)
        x = tl.load(residual + flat + lanes, mask=mask, other=0.0)
    return x, mask


@triton.jit(do_not_specialize=VARYING)
def count(residual, values, table, state, layout, segments, size, tiles, BLOCK: tl.constexpr):
    """How many entries of each tile are larger than FOUND, and how many equal it."""
    lanes = tl.arange(0, BLOCK)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, _, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        own = state + segment * STATE
        begin = of_layout(ROOMS, segment, layout, segments)
        x, mask = chosen_from(tl.load(own + SOURCE), tile, flat, left, begin, residual, values, table, tiles, lanes)
        bits, found = magnitude(x), tl.load(own + FOUND)
        tl.store(table + ABOVE * tiles + tile, tl.sum(((bits > found) & mask).to(tl.int32), 0))
        tl.store(table + EQUAL * tiles + tile, tl.sum(((bits == found) & mask).to(tl.int32), 0))


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
    BLOCK: tl.constexpr,
):
    """Write the selection, and 0 in its place into the residual; zeros at the first indices when it was refused."""
    lanes = tl.arange(0, BLOCK)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        segment, start, flat, left = entries_of_tile(tile, layout, segments, size, BLOCK)
        own = state + segment * STATE
        source = tl.load(own + SOURCE)
        output = of_layout(OUTPUTS, segment, layout, segments)
        here = start + lanes
        if source == NOTHING:
            first = here < length_of(OUTPUTS, segment, layout, segments, k)
            mask = first & (lanes < left)
            tl.store(kept + output + here, tl.zeros((BLOCK,), tl.float32), mask=mask)
            tl.store(kept_positions + output + here, here, mask=mask)
        else:
            found, ties = tl.load(own + FOUND), tl.load(table + TIES * tiles + tile)
            begin = of_layout(ROOMS, segment, layout, segments)
            x, mask = chosen_from(source, tile, flat, left, begin, residual, values, table, tiles, lanes)
            equal = ((magnitude(x) == found) & mask).to(tl.int32)
            tie = (equal != 0) & (tl.cumsum(equal, 0) <= ties)
            taken = ((magnitude(x) > found) & mask) | tie
            place = output + tl.load(table + BEGIN * tiles + tile) + tl.cumsum(taken.to(tl.int32), 0) - 1
            if source == CANDIDATES:
                base = tl.load(table + BASE * tiles + tile)
                here = tl.load(positions + begin + base + lanes, mask=taken, other=0)
            tl.store(kept + place, x, mask=taken)
            tl.store(kept_positions + place, here, mask=taken)
            tl.store(residual + (flat - start) + here, tl.zeros((BLOCK,), tl.float32), mask=taken)
