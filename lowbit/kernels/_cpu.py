"""Exact selection on a CPU: one pass over memory when the last threshold is a good guess, a histogram when it is not.

The guess: everything above a little less than the last threshold is moved out of the residual while the gradient is
added. If that is at least k and fits its buffer, the k-th largest is among it, and what lies below is put back: the
tensor was read and written once, as by `residual.add_(gradient)` alone. Otherwise (a miss) all is put back, and a
histogram of magnitudes finds a bracket that holds the k-th largest; only then is the tensor passed again. Before
anything is written, the gradient is read once to see that it is finite.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lowbit.kernels import _guess, _kth, _passes
from lowbit.kernels._guess import CALLS, REFUSED, THRESHOLD
from lowbit.kernels._lanes import LANES
from lowbit.kernels._threads import each, parts

_DIGIT = 11  # bits of one radix step: 2048 bins


def largest_magnitude(tensor: Tensor) -> float:
    """Maximum of |tensor|, which is contiguous float32; infinity or NaN when an entry is."""
    return _float(_largest(tensor.numpy().reshape(-1)))


def select_largest(
    gradient: Tensor | None, residual: Tensor, history: Tensor, k: int, num_bins: int, gamma: float, rule: str
) -> tuple[Tensor, Tensor]:
    """As `lowbit.kernels.selection.select_largest`, for contiguous float32 tensors of less than 2^31 entries."""
    size = residual.numel()
    indices, values = torch.empty(k, dtype=torch.int32), torch.empty(k)
    room, cuts = min(size, 4 * k + 1024), parts(size)
    if len(cuts) == 1:
        scratch = torch.empty(2 * (room + LANES), dtype=torch.int32)
        given = 0 if gradient is None else gradient.data_ptr(), residual.data_ptr(), size, history.data_ptr(), k, room
        result = _guess.guess_at(*given, scratch.data_ptr(), indices.data_ptr(), values.data_ptr())
        if result == _guess.HIT:
            return values, indices
    g, r, past = None if gradient is None else gradient.numpy(), residual.numpy(), history.numpy()
    kept = indices.numpy(), values.numpy()
    if len(cuts) > 1:
        result = _guess_in_parts(g, r, past, k, room, cuts, kept)
    if result == _guess.UNSURE and g is not None and _passes.largest_sum(g, r) >= _passes.INFINITY:
        past[REFUSED] = 1
        return torch.zeros(k), torch.arange(k, dtype=torch.int32)
    if result != _guess.HIT:
        if result == _guess.UNSURE and g is not None:
            residual.add_(gradient)
        threshold = _from_histogram(residual, k, max(room, size // 256), (num_bins, gamma, rule), kept)
        if result == _guess.MISS:
            _guess.learn(past, threshold, k, False)
        past[THRESHOLD] = _float(threshold)
    return values, indices


def _guess_in_parts(g, r, past, k: int, room: int, cuts, kept) -> int:
    """`_guess.guess_at` by several threads."""
    past[CALLS] += 1
    past[REFUSED] = 0
    if not past[THRESHOLD] > 0 or (g is not None and not _guess.is_safe(_largest(g), past)):
        return _guess.UNSURE
    candidates = _buffers(room, cuts)
    starts, counts = _collect(g, r, _guess.floor(past), candidates, cuts)
    return _guess.HIT if _guess.settle(r, *candidates, starts, counts, k, room, past, *kept) else _guess.MISS


def _buffers(room: int, cuts):
    """Positions and values of candidates, a stretch for each part."""
    size = len(cuts) * (min(room, max(stop - start for start, stop in cuts)) + LANES)
    return np.empty(size, np.int32), np.empty(size, np.float32)


def _collect(g, r, floor: int, candidates, cuts):
    """Move what is large to the buffers; where each part's candidates begin, and their numbers."""
    size = len(candidates[0]) // len(cuts)

    def work(number: int, start: int, stop: int) -> int:
        own = slice(number * size, (number + 1) * size)
        return _passes.collect(g, r, floor, start, stop, candidates[0][own], candidates[1][own])

    return size * np.arange(len(cuts)), np.array(each(work, cuts))


def _from_histogram(residual: Tensor, k: int, room: int, binning: tuple[int, float, str], kept) -> int:
    """Select from a residual that is compensated already; the bits of the smallest magnitude that is kept."""
    r = residual.numpy()
    bits, cuts = r.view(np.int32), parts(r.size)
    low, high, above, inside = _first_bracket(residual, k, *binning)
    while above + inside > room and high - low > 1:
        shift = max(0, (high - low - 1).bit_length() - _DIGIT)
        counts = _count(_passes.radix_histogram, bits, cuts, 1 << _DIGIT, low, high, shift)
        place, more = _kth.crossing(counts, k - above)
        above, inside, low = above + more, int(counts[place]), low + (place << shift)
        high = min(high, low + (1 << shift))
    if above + inside > room:
        _passes.take_ties(r, low, k - above, *kept)
        return low
    candidates = _buffers(above + inside, cuts)
    starts, counts = _collect(None, r, low, candidates, cuts)
    threshold, above, equal = _kth.kth(candidates[1].view(np.int32), starts, counts, k)
    ties = -1 if above + equal == k else k - above
    _passes.split(r, *candidates, starts, counts, threshold, ties, *kept)
    return threshold


def _first_bracket(residual: Tensor, k: int, num_bins: int, gamma: float, rule: str) -> tuple[int, int, int, int]:
    """Bits between which the k-th largest magnitude lies, entries above, entries inside."""
    r = residual.numpy()
    bits, cuts, top = r.view(np.int32), parts(r.size), int(_largest(r)) + 1
    if rule == "float_bits" or top == 1:
        counts = _count(_passes.radix_histogram, bits, cuts, 1 << _DIGIT, 0, top, 31 - _DIGIT)
        place, above = _kth.crossing(counts, k)
        return place << 20, min(top, (place + 1) << 20), above, int(counts[place])
    if rule == "log_relative":
        gamma /= float(torch.linalg.vector_norm(residual, 1, dtype=torch.float64)) / r.size
    edges = bin_edges(num_bins, gamma, _float(top - 1)).view(np.int32)
    counts = _count(_passes.edge_histogram, bits, cuts, num_bins, edges)
    place, above = _kth.crossing(counts, k)
    return int(edges[place]), top if place == num_bins - 1 else int(edges[place + 1]), above, int(counts[place])


def bin_edges(num_bins: int, gamma: float, most: float) -> np.ndarray:
    """Lower edges of the logarithmic bins of magnitudes up to `most`, float32: (e^(i D / B) - 1) / gamma."""
    width = math.log1p(gamma * most) / num_bins
    return np.minimum(np.expm1(np.arange(num_bins) * width) / gamma, most).astype(np.float32)


def _largest(array) -> int:
    bits = array.view(np.int32)
    return max(each(lambda _, start, stop: _passes.largest(bits[start:stop]), parts(bits.size)))


def _count(histogram, bits, cuts, bins: int, *how) -> np.ndarray:
    def work(_: int, start: int, stop: int) -> np.ndarray:
        counts = np.zeros(bins, np.int64)
        histogram(bits[start:stop], *how, counts)
        return counts

    return np.sum(each(work, cuts), axis=0)


def _float(bits: int) -> float:
    return float(np.int32(bits).view(np.float32))
