"""The k-th largest magnitude of candidates: radix steps of 2048 bins over the bits of float32 numbers."""

import numpy as np

from lowbit.kernels._jit import jit
from lowbit.kernels._lanes import LANES, MAGNITUDE, gather_sixteen

_BINS = 2048


@jit
def crossing(counts, k):
    """The largest bin whose entries, with those of all higher bins, are at least k; and how many lie above it."""
    above, i = np.int64(0), counts.size - 1
    while i > 0 and above + counts[i] < k:
        above += counts[i]
        i -= 1
    return i, above


@jit
def kth(bits, starts, counts, k):
    """Bits of the k-th largest magnitude among candidates, how many are larger, and how many equal it.

    Args:
        bits: int32 array with the candidates of each part.
        starts: where each part begins.
        counts: candidates of each part; k at least together.
        k: at least 1.
    """
    most, least = np.int32(0), np.int32(MAGNITUDE)
    for part in range(starts.size):
        own = bits[starts[part] : starts[part] + counts[part]]
        for i in range(own.size):
            most = max(most, own[i] & np.int32(MAGNITUDE))
            least = min(least, own[i] & np.int32(MAGNITUDE))
    high, low = np.int64(most), np.int64(least)
    shift = 0
    while (high - low) >> shift >= _BINS:
        shift += 1
    histogram, second = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for part in range(starts.size):
        own = bits[starts[part] : starts[part] + counts[part]]
        for i in range(own.size // 2):  # two histograms: equal bins in a row would wait for each other
            histogram[(np.int64(own[2 * i] & MAGNITUDE) - low) >> shift] += 1
            second[(np.int64(own[2 * i + 1] & MAGNITUDE) - low) >> shift] += 1
        if own.size % 2:
            histogram[(np.int64(own[own.size - 1] & MAGNITUDE) - low) >> shift] += 1
    histogram += second
    place, above = crossing(histogram, k)
    if shift == 0:
        return low + place, above, histogram[place]
    low += place << shift
    inside = np.empty(histogram[place] + 1, np.int64)  # one more: every entry is written, few count
    number = 0
    for part in range(starts.size):
        for i in range(starts[part], starts[part] + counts[part]):
            magnitude = np.int64(bits[i] & MAGNITUDE)
            inside[number] = magnitude
            number += (magnitude - low) >> shift == 0
    return _refine(inside[:number], low, shift, above, k)


@jit
def kth_below(values, starts, counts, k, ceiling):
    """`kth`, quicker when fewer than k candidates reach the bits `ceiling`: only the others are told apart."""
    total, count, least, bits = counts.sum(), np.int64(0), np.int32(ceiling), values.view(np.int32)
    low = np.empty(total + LANES, np.float32)
    for part in range(starts.size):
        i, stop = np.int64(starts[part]), np.int64(starts[part] + counts[part])
        while i + LANES <= stop:
            count = gather_sixteen(values, i, least, low, count)
            i += LANES
        while i < stop:
            low[count] = values[i]
            count += (bits[i] & MAGNITUDE) < least
            i += 1
    certain = total - count
    if certain >= k:
        return kth(bits, starts, counts, k)
    place, above, equal = kth(low.view(np.int32), np.zeros(1, np.int64), np.full(1, count), k - certain)
    return place, certain + above, equal


@jit
def _refine(inside, low, shift, above, k):
    """`kth` among magnitudes that are known to share a bin of 2^shift bit patterns above `low`."""
    histogram, number = np.empty(_BINS, np.int64), inside.size
    while True:
        width = shift
        shift = max(0, width - 11)
        histogram[:] = 0
        for i in range(number):
            histogram[(inside[i] - low) >> shift] += 1
        place, more = crossing(histogram, k - above)
        above += more
        low += place << shift
        if shift == 0:
            return low, above, histogram[place]
        left = 0
        for i in range(number):
            if (inside[i] - low) >> shift == 0:
                inside[left] = inside[i]
                left += 1
        number = left
