"""The optimistic pass, compiled: what lies above a little less than the last threshold holds the k largest, or not.

Where to cut follows from how steeply the number of entries falls with the threshold, which every call measures anew:
the next guess aims at a little more than k candidates. The aim widens with every miss and narrows while there is none.
"""

import numpy as np
from numba import carray

from lowbit.kernels._jit import jit
from lowbit.kernels._kth import kth_below
from lowbit.kernels._lanes import LANES, pointer
from lowbit.kernels._passes import INFINITY, collect, largest, put_back, split

THRESHOLD, SLOPE, AIM, CAUGHT, CALLS, HITS, REFUSED = range(7)
HIT, MISS, UNSURE = range(3)
FIRST_SLOPE, LEAST_AIM, MOST_AIM = 8.0, 1.25, 3.0
SAFE = 1e38  # twice that is finite


@jit
def floor(history):
    """Bits of the magnitude from which on entries are candidates."""
    return _near_threshold(history, -1.0)


@jit
def _near_threshold(history, sign):
    """Bits of a magnitude below (-1) or above (1) the last threshold by as much as the aim asks for."""
    slope = history[SLOPE] if history[SLOPE] > 0 else FIRST_SLOPE
    one = np.empty(1, np.float32)
    one[0] = history[THRESHOLD] * max(history[AIM], LEAST_AIM) ** (sign / slope)
    return one.view(np.int32)[0]


@jit
def is_safe(most, history):
    """Whether a gradient of this largest magnitude (bits) keeps every sum finite.

    No entry of the residual is larger than the last threshold, or than SAFE where it was changed since then.
    """
    bits = np.empty(1, np.int32)
    bits[0] = most
    return most < INFINITY and bits.view(np.float32)[0] + history[THRESHOLD] < SAFE


@jit
def learn(history, threshold, k, hit):
    """Note the threshold (bits) of this call, and what the guess before it teaches for the next.

    A guess that caught more than there was room for tells only that the numbers fall at least so steeply. A guess or a
    threshold of 0 teaches nothing.
    """
    guessed, found = np.empty(1, np.int32), np.empty(1, np.int32)
    guessed[0], found[0] = floor(history), threshold
    if guessed[0] > 0 and found[0] > 0:
        distance = np.log(np.float64(found.view(np.float32)[0]) / guessed.view(np.float32)[0])
        excess = np.log(max(abs(history[CAUGHT]), 1.0) / k)
        slope = history[SLOPE] if history[SLOPE] > 0 else FIRST_SLOPE
        if abs(excess) > 1e-3 and excess * distance > 0:
            steeper = max(slope, excess / distance) if history[CAUGHT] < 0 else 0.5 * (slope + excess / distance)
            history[SLOPE] = min(max(steeper, 0.5), 200.0)
        least = 1.1 + 2.0 / np.sqrt(k)
        beyond = max(history[AIM], least) - 1
        if history[CAUGHT] > 0:
            history[AIM] = min(max(1 + (0.98 if hit else 1.5) * beyond, least), MOST_AIM)
    history[HITS] += hit
    history[THRESHOLD] = found.view(np.float32)[0]


@jit
def settle(residual, positions, values, starts, counts, k, room, history, kept, kept_values):
    """Turn candidates into the selection, or put them back.

    Args:
        residual: float32 array from which the candidates were moved.
        positions: int32 array of candidates.
        values: float32 array of candidates.
        starts: where each part begins.
        counts: candidates of each part; -1 - candidates where a part had no room for all.
        k: entries to keep.
        room: candidates that there may be.
        history: float64 array, updated.
        kept: int32 output.
        kept_values: float32 output.

    Returns:
        Whether it was a hit.
    """
    total, full = 0, False
    for part in range(starts.size):
        full |= counts[part] < 0
        counts[part] = max(counts[part], -1 - counts[part])
        total += counts[part]
    full |= total > room  # several parts together
    history[CAUGHT] = -total if full else total
    hit = not full and total >= k
    if hit:
        bits, above, equal = kth_below(values, starts, counts, k, _near_threshold(history, 1.0))
        split(
            residual,
            positions,
            values,
            starts,
            counts,
            bits,
            -1 if above + equal == k else k - above,
            kept,
            kept_values,
        )
        learn(history, bits, k, True)
    else:
        for part in range(starts.size):
            put_back(residual, positions[starts[part] :], values[starts[part] :], counts[part])
    return hit


@jit
def guess_at(gradient, residual, size, history, k, room, scratch, kept, kept_values):
    """All of it for tensors in one part: HIT, MISS, or UNSURE, with nothing done, without a past or a safe sum.

    Addresses of data stand for tensors: to make arrays of them takes longer in Python than the selection from 10,000
    entries.

    Args:
        gradient: address of float32, shape (size,); 0 to add nothing.
        residual: address of float32, shape (size,).
        size: N.
        history: address of float64, shape (REFUSED + 1,).
        k: entries to keep.
        room: candidates that there may be.
        scratch: address of room for candidates: 2 (room + LANES) numbers of 4 bytes.
        kept: address of int32, with room for k.
        kept_values: address of float32, likewise.
    """
    past, r = carray(pointer(history), REFUSED + 1, np.float64), carray(pointer(residual), size, np.float32)
    past[CALLS] += 1
    past[REFUSED] = 0
    if not past[THRESHOLD] > 0:
        return UNSURE
    starts, counts, length = np.zeros(1, np.int64), np.empty(1, np.int64), room + LANES
    positions = carray(pointer(scratch), length, np.int32)
    values = carray(pointer(scratch + 4 * length), length, np.float32)
    if gradient:
        g = carray(pointer(gradient), size, np.float32)
        if not is_safe(largest(g.view(np.int32)), past):
            return UNSURE
        counts[0] = collect(g, r, floor(past), 0, size, positions, values)
    else:
        counts[0] = collect(None, r, floor(past), 0, size, positions, values)
    indices, chosen = carray(pointer(kept), k, np.int32), carray(pointer(kept_values), k, np.float32)
    return HIT if settle(r, positions, values, starts, counts, k, room, past, indices, chosen) else MISS
