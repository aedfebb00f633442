"""What a quantizer is: codes (small integers) times a scale, and the fake-quantized tensor that training uses."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from lowbit.surrogates._base import Surrogate


@dataclass(frozen=True)
class Quantized:
    """Codes and the scale that multiplies them.

    Args:
        codes: integers held in the float dtype of the input, of its shape; a tensor of its own.
        scale: what one code is worth; broadcastable to `codes`.
    """

    codes: Tensor
    scale: Tensor

    def dequantize(self) -> Tensor:
        """codes * scale."""
        return self.codes * self.scale


class Quantizer(ABC):
    """Forward map of a rounding. Its backward belongs to a surrogate.

    Attributes:
        bits: information per entry.
        fixed_range: whether the levels stay where they are when the input is scaled.
    """

    bits: ClassVar[float]
    fixed_range: ClassVar[bool] = False

    def when(self, training: bool) -> Self:
        """What a layer rounds with: itself, but to the nearest in evaluation where it draws at random in training."""
        draws = not training and getattr(self, "rounding", "") == "stochastic"
        return dataclasses.replace(self, rounding="nearest") if draws else self

    @abstractmethod
    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Codes and scale of a tensor.

        Args:
            x: real tensor.
            kept: dimensions along which entries may have scales of their own (output channels of a weight, tokens of an
                activation); a quantizer set to one scale per tensor ignores them.
        """

    def fake_quantize(self, x: Tensor, surrogate: Surrogate, kept: tuple[int, ...] = (), blend: float = 1.0) -> Tensor:
        """Quantize and dequantize, with the surrogate's derivative.

        Args:
            x: real tensor.
            surrogate: derivative used for the rounding.
            kept: as in `quantize`.
            blend: lambda of a warm-up, x + lambda (Q(x) - x): 0 returns x itself, 1 the quantized tensor.
        """
        if blend == 0.0:
            return x
        with torch.no_grad():
            q = self.quantize(x.detach(), kept)
            quantized = q.codes.mul_(q.scale)  # in place: the codes are needed no more
        attached = surrogate.attach(x, quantized, q.scale)
        return attached if blend == 1.0 else (1.0 - blend) * x + blend * attached


def reduced_dims(x: Tensor, kept: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of x that share a scale when those in `kept` do not.

    Raises:
        ValueError: when no dimension is left: torch would reduce over all of them.
    """
    own = {d % x.ndim for d in kept} if x.ndim else set()
    if own and len(own) == x.ndim:
        raise ValueError(f"kept {kept} are all dimensions of shape {tuple(x.shape)}; leave one that shares a scale")
    return tuple(d for d in range(x.ndim) if d not in own)


def rounded_at_random(x: Tensor) -> Tensor:
    """floor(x + U) with U uniform in [0, 1) for each entry: one of the two neighbouring integers, x in expectation.

    Draws from the default generator of the device, which the training loop seeds at every step.
    """
    return torch.minimum((x + torch.rand_like(x)).floor_(), x.ceil())  # x + U may round up to the integer after
