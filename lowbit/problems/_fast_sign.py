"""The sign as one pass over a tensor, for losses alone: half of what a binary network computes is signs."""

from typing import ClassVar

import torch
from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates._base import Surrogate


class FastSign(Quantizer):
    """`Uniform(levels=2)` for numbers that are not NaN, without a derivative."""

    bits: ClassVar[float] = 1.0
    fixed_range: ClassVar[bool] = True

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Signs, with sign(0) = sign(-0) = +1, and scale 1."""
        signed = x + 0.0
        return Quantized(torch.copysign(x.new_ones(()), signed, out=signed), x.new_ones(()))

    def fake_quantize(self, x: Tensor, surrogate: Surrogate, kept: tuple[int, ...] = (), blend: float = 1.0) -> Tensor:
        """Signs."""
        return self.quantize(x.detach()).codes


def fast(quantizer: Quantizer) -> Quantizer:
    """The same rounding, faster where it is the sign."""
    return FastSign() if isinstance(quantizer, Uniform) and quantizer.levels == 2 else quantizer
