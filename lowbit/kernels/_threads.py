"""Parts of an array for threads: as many as PyTorch uses, none so small that starting it costs more than it saves."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Result = TypeVar("Result")
_LEAST = 2**17  # entries of a part: its passes take as long as waking a thread
_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # the threads of a pool stay with the parent


def parts(size: int, width: int = 1) -> list[tuple[int, int]]:
    """Start and end of each part of an array, in order.

    Args:
        size: entries, or rows.
        width: entries of a row; 1 for an array of entries, whose parts begin at multiples of 16.
    """
    number = min(torch.get_num_threads(), size, size * width // _LEAST)
    if number < 2:
        return [(0, size)]
    whole = 16 if width == 1 else 1
    borders = [size * i // number // whole * whole for i in range(number)] + [size]
    return list(pairwise(borders))


def each(work: Callable[[int, int, int], Result], cuts: list[tuple[int, int]]) -> list[Result]:
    """work(number, start, stop) of every part at once; what it calls must release the interpreter's lock."""
    if len(cuts) == 1:
        return [work(0, *cuts[0])]
    if len(cuts) not in _pools:
        _pools[len(cuts)] = ThreadPoolExecutor(len(cuts) - 1, thread_name_prefix="lowbit-kernels")
    others = [_pools[len(cuts)].submit(work, number, *cut) for number, cut in enumerate(cuts[1:], start=1)]
    first = work(0, *cuts[0])
    return [first, *(other.result() for other in others)]
