"""Where the time of a step goes, section by section, without waiting for the device inside it."""

import itertools
import time
from typing import Any

import torch

SECTIONS = ("forward", "backward", "update")


class Clock:
    """Stamps between the sections of a step: the processor's time on a CPU, events in the stream on a GPU.

    Args:
        device: "cpu" or "cuda".

    Attributes:
        laps: of the current step: the section that ended, and the stamp.
    """

    def __init__(self, device: str):
        self.laps: list[tuple[str, Any]] = []
        self._stamp = time.perf_counter if device == "cpu" else _event

    def begin(self) -> None:
        """A step begins."""
        self.laps = [("", self._stamp())]

    def lap(self, section: str) -> None:
        """A section ends, which began where the one before ended."""
        self.laps.append((section, self._stamp()))


def seconds_of(laps: list[tuple[str, Any]]) -> dict[str, float]:
    """Seconds of each section and of the whole step; events must have happened."""
    seconds = dict.fromkeys(SECTIONS, 0.0)
    for (_, before), (section, after) in itertools.pairwise(laps):
        if section in seconds:
            seconds[section] += _between(before, after)
    return {**seconds, "step": _between(laps[0][1], laps[-1][1])}


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(before: Any, after: Any) -> float:
    return after - before if isinstance(after, float) else before.elapsed_time(after) / 1000
