"""k levels, evenly spaced from -1 to 1: 2 are the sign, 3 are ternary, 4 take two bits.

    value = 2 j / (k - 1) - 1 with j = floor((clip(x, -1, 1) + 1) / 2 * (k - 1) + 1/2)

A half rounds up, so that two levels map 0 to +1. With stochastic rounding U ~ U(0, 1) takes the place of 1/2: the value
is clip(x, -1, 1) in expectation, and for two levels P(+1) = clip((x + 1) / 2, 0, 1), BinaryConnect's stochastic sign;
evaluation takes the nearest. Surrogates see x itself, in units of the range: `window` of width 1 is the clipped
straight-through estimator for every k.

**Reference**: for activations in steps of 1/n after a clip, H. Kim, K. Kim, J. Kim, J.-J. Kim, BinaryDuo, 2020,
arXiv 2002.06517. Stochastic sign: M. Courbariaux, Y. Bengio, J.-P. David, BinaryConnect, 2015, arXiv 1511.00363.
"""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer, rounded_at_random
from lowbit.surrogates._base import Surrogate
from lowbit.variant import variant


@variant
class Uniform(Quantizer):
    """Evenly spaced levels from -1 to 1, for activations.

    Args:
        levels: how many.
        rounding: to the nearest level, or to one of the two neighbours at random, unbiased.

    Example:
        >>> Uniform(levels=4).quantize(torch.tensor([-2.0, -0.5, 0.0, 0.9])).codes.tolist()
        [-3.0, -1.0, 1.0, 3.0]
    """

    fixed_range: ClassVar[bool] = True
    levels: Annotated[int, Field(ge=2)] = 2
    rounding: Literal["nearest", "stochastic"] = "nearest"

    @property
    def bits(self) -> float:
        """log2 of the levels."""
        return math.log2(self.levels)

    @property
    def values(self) -> tuple[float, ...]:
        """The levels in rising order."""
        return tuple(2 * j / (self.levels - 1) - 1 for j in range(self.levels))

    def index(self, x: Tensor) -> Tensor:
        """Number of the nearest level of each entry, int64."""
        if self.levels == 2:
            return (x >= 0).long()
        return ((x.clamp(-1, 1) + 1) * (0.5 * (self.levels - 1)) + 0.5).floor().long()

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Codes are integers, odd ones when the number of levels is even; one scale."""
        step = 1 if self.levels % 2 else 2
        scale = 2.0 / (self.levels - 1) / step
        if self.rounding == "stochastic":
            codes = rounded_at_random((x.clamp(-1, 1) + 1) * (0.5 * (self.levels - 1)))
            codes = codes.sub_((self.levels - 1) / 2).mul_(step)
        elif self.levels == 2:
            codes = torch.where(x.isnan(), x, torch.where(x >= 0, 1.0, -1.0).to(x.dtype))
        else:
            codes = ((x.clamp(-1, 1) + 1) * (0.5 * (self.levels - 1)) + 0.5).floor_()
            codes = codes.sub_((self.levels - 1) / 2).mul_(step)
        return Quantized(codes, x.new_tensor(scale))

    def fake_quantize(self, x: Tensor, surrogate: Surrogate, kept: tuple[int, ...] = (), blend: float = 1.0) -> Tensor:
        """The nearest level, with the surrogate's derivative at x."""
        if blend == 0.0:
            return x
        with torch.no_grad():
            quantized = self.quantize(x.detach()).dequantize()
        attached = surrogate.attach(x, quantized, x.new_ones(()))
        return attached if blend == 1.0 else (1.0 - blend) * x + blend * attached
