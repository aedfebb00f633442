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


def parts(size: int) -> list[tuple[int, int]]:
    """Start and end of each part of an array, in order."""
    number = 1 if size < 2 * _LEAST else min(torch.get_num_threads(), size // _LEAST)
    if number == 1:
        return [(0, size)]
    borders = [size * i // number // 16 * 16 for i in range(number)] + [size]
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
