"""Numbers that a device computes, on their way to the host."""

import torch
from torch import Tensor


class Answer:
    """A copy of some numbers, made when their device comes to it: nobody waits until one is asked for.

    Args:
        numbers: of any device, shape (n,).
    """

    def __init__(self, numbers: Tensor):
        self._arrived = None
        if numbers.is_cuda:
            self._copy = torch.empty(len(numbers), dtype=numbers.dtype, pin_memory=True)
            self._copy.copy_(numbers.contiguous(), non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(numbers.device))
        else:
            self._copy = numbers.clone()

    def number(self, place: int) -> float:
        """One of them, once the device has come to it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._copy[place])
