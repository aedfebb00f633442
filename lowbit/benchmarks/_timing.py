"""Ratios of times measured side by side: interleaved, many times over, as medians with quartiles.

Machines are shared and noisy: absolute times say little, while neighbouring measurements of two contestants suffer
alike. The clock counts the processor time of this process, which others who want the same cores do not lengthen; on a
GPU, time until the device has done all that it was given.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Row:
    """One measured number.

    Args:
        case: what was measured.
        metric: which number of it.
        value: the number.
        unit: of the number; "1" for a ratio.
    """

    case: str
    metric: str
    value: float
    unit: str


class WrongResultError(RuntimeError):
    """A contestant computes something else, so its speed means nothing."""


def clock_of(device: str) -> Callable[[], float]:
    """The clock for work on a device, in seconds."""
    if device == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def seconds_side_by_side(
    contestants: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, np.ndarray]:
    """Time every contestant once per round, in alternating order.

    Args:
        contestants: name -> what to time; called twice before to warm up.
        rounds: measurements of each.
        clock: in seconds.

    Returns:
        Name -> seconds, shape (rounds,).
    """
    for _ in range(2):
        for work in contestants.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants.items())
        for name, work in order if number % 2 else reversed(order):
            start = clock()
            work()
            seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio_rows(case: str, ours: np.ndarray, theirs: np.ndarray, metric: str = "ratio") -> Iterator[Row]:
    """Median and quartiles of ours / theirs, round by round; below 1 is faster."""
    ratios = ours / theirs
    for suffix, share in (("", 0.5), ("_quartile_low", 0.25), ("_quartile_high", 0.75)):
        yield Row(case, f"{metric}{suffix}", float(np.quantile(ratios, share)), "1")
