"""A number that a device computes, on its way to the host."""

import torch
from torch import Tensor


class Answer:
    """A copy of a number, made when its device comes to it: nobody waits until it is asked for.

    Args:
        number: of any device, without dimensions.
    """

    def __init__(self, number: Tensor):
        self._arrived = None
        if number.is_cuda:
            self._copy = torch.empty_like(number, device="cpu", pin_memory=True).copy_(number, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(number.device))
        else:
            self._copy = number.clone()

    def number(self) -> float:
        """The number, once the device has come to it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._copy)
