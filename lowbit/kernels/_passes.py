"""Passes over float32 arrays, compiled by Numba: what `_cpu` puts together to an exact selection.

Magnitudes are compared as integers (their bits without the sign), so that every finite number has its place and equal
bits are a tie. Callers cut arrays into parts, one a thread; every function touches its own part alone.
"""

import numpy as np

from lowbit.kernels._jit import jit
from lowbit.kernels._lanes import LANES, MAGNITUDE, collect_sixteen, split_sixteen

INFINITY = 0x7F800000


@jit
def largest(bits):
    """Largest magnitude as bits; infinity and NaN are INFINITY and above.

    Four places are read at once: one stream of reads does not fill the memory bus of a core.
    """
    most, quarter = np.int32(0), bits.size // 4
    second, third, fourth = bits[quarter:], bits[2 * quarter :], bits[3 * quarter :]
    for i in range(quarter):
        one = max(bits[i] & np.int32(MAGNITUDE), second[i] & np.int32(MAGNITUDE))
        other = max(third[i] & np.int32(MAGNITUDE), fourth[i] & np.int32(MAGNITUDE))
        most = max(most, max(one, other))
    for i in range(4 * quarter, bits.size):
        most = max(most, bits[i] & np.int32(MAGNITUDE))
    return most


@jit
def collect(gradient, residual, floor, start, stop, positions, values):
    """Compensate entries start..stop, and move those of magnitude bits >= floor out of the residual.

    Args:
        gradient: float32 array, or None to add nothing.
        residual: float32 array of the same size.
        floor: bits of a magnitude.
        start: first entry.
        stop: end of the entries.
        positions: int32 output, with room for 16 more entries than are asked for.
        values: float32 output of the same size.

    Returns:
        How many were moved; -1 - that number when there was no room for all. Then every entry is compensated all the
        same, and those in the outputs are missing in the residual.
    """
    least, count, i, bits = np.int32(floor), np.int64(0), np.int64(start), residual.view(np.int32)
    room, whole = positions.size - LANES, start + (stop - start) // LANES * LANES
    while i < whole and count <= room:
        count = collect_sixteen(gradient, residual, i, least, positions, values, count)
        i += LANES
    full = count > room
    while i < stop:
        if gradient is not None:
            residual[i] += gradient[i]
        if not full and (bits[i] & MAGNITUDE) >= least:
            positions[count], values[count] = i, residual[i]
            residual[i] = 0.0
            count += 1
        i += 1
    return -1 - count if full else count


@jit
def largest_sum(gradient, residual):
    """Largest magnitude of gradient + residual as bits, nothing changed."""
    most, one = np.int32(0), np.empty(1, np.float32)
    bits = one.view(np.int32)
    for i in range(residual.size):
        one[0] = gradient[i] + residual[i]
        most = max(most, bits[0] & np.int32(MAGNITUDE))
    return most


@jit
def put_back(residual, positions, values, count):
    """Undo the moves of `collect`."""
    for i in range(count):
        residual[positions[i]] = values[i]


@jit
def radix_histogram(bits, low, high, shift, counts):
    """Count magnitudes low..high in bins of 2^shift bit patterns; others, and those equal to `high`, count nowhere."""
    for i in range(bits.size):
        magnitude = np.int64(bits[i] & MAGNITUDE)
        if low <= magnitude < high:
            counts[(magnitude - low) >> shift] += 1


@jit
def edge_histogram(bits, edges, counts):
    """Count magnitudes in bins between edges, the last one open; edges[0] is 0.

    A table over the upper half of the bits gives the first bin that an entry can be in; few entries have to look
    further.
    """
    table = np.empty((INFINITY >> 16) + 1, np.int16)
    last, bin_ = edges.size - 1, 0
    for cell in range(table.size):
        while bin_ < last and edges[bin_ + 1] <= cell << 16:
            bin_ += 1
        table[cell] = bin_
    for i in range(bits.size):
        magnitude = bits[i] & MAGNITUDE
        place = np.int64(table[magnitude >> 16])
        while place < last and magnitude >= edges[place + 1]:
            place += 1
        counts[place] += 1


@jit
def split(residual, positions, values, starts, counts, threshold, ties, kept, kept_values):
    """Keep the candidates above a threshold and the first `ties` equal to it; put the others back into the residual.

    Args:
        residual: float32 array.
        positions: int32 array of candidates, changed.
        values: float32 array of candidates, changed.
        starts: where each part begins.
        counts: candidates of each part.
        threshold: bits of a magnitude.
        ties: how many of those equal to the threshold are kept; -1 for all.
        kept: int32 output, with room for what is kept.
        kept_values: float32 output.

    Returns:
        How many were kept.
    """
    count, least, bits = np.int64(0), np.int32(threshold), values.view(np.int32)
    for part in range(starts.size):
        start, stop = np.int64(starts[part]), np.int64(starts[part] + counts[part])
        own, own_values = positions[start:], values[start:]
        i, left, size = np.int64(0), np.int64(0), stop - start
        if ties < 0:
            while i + LANES <= size and count + LANES <= kept.size:
                chosen = split_sixteen(own, own_values, i, least, kept, kept_values, count, left)
                count += chosen
                left += LANES - chosen
                i += LANES
        while i < size:
            where, value, magnitude = own[i], own_values[i], bits[start + i] & MAGNITUDE
            if magnitude > least or (magnitude == least and ties != 0):
                ties -= magnitude == least
                kept[count], kept_values[count] = where, value
                count += 1
            else:
                own[left], own_values[left] = where, value
                left += 1
            i += 1
        put_back(residual, own, own_values, left)
    return count


@jit
def take_ties(residual, threshold, ties, kept, kept_values):
    """Move all entries above a threshold and the first `ties` equal to it out of the residual; returns their number."""
    bits, count = residual.view(np.int32), 0
    for i in range(bits.size):
        magnitude = bits[i] & MAGNITUDE
        if magnitude > threshold or (magnitude == threshold and ties > 0):
            ties -= magnitude == threshold
            kept[count], kept_values[count] = i, residual[i]
            residual[i] = 0.0
            count += 1
    return count
