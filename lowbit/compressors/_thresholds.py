"""Search of a threshold by counting: each probe is a pass over the magnitudes and remembers what it counted."""

import math

import torch
from torch import Tensor


def search(size: Tensor, k: int, guess: float, probes: int, least: float, most: float) -> float:
    """A threshold that about k magnitudes reach.

    Halving between the largest threshold that too many reach and the smallest that too few reach, from a guess on.

    Args:
        size: magnitudes, of which one is not 0.
        k: wanted.
        guess: where to begin.
        probes: thresholds that are counted at most.
        least: what is accepted, in units of k.
        most: what is accepted, in units of k.

    Returns:
        The first accepted one, otherwise the one whose count is nearest to k as a ratio; at least one entry reaches it.
    """
    low, high = 0.0, float(size.max())
    threshold, best, distance = guess if 0 < guess <= high else high, high, math.inf
    for _ in range(probes):
        count = int(torch.count_nonzero(size >= threshold))
        off = abs(math.log(max(count, 0.5) / k))
        if off < distance and count:
            best, distance = threshold, off
        if least * k <= count <= most * k:
            return threshold
        if count > k:
            low = threshold
        else:
            high = threshold
        threshold = 0.5 * (low + high) if low else 0.5 * high
        if threshold in (low, high, 0.0):
            break
    return best
