"""Differentiable soft quantization (DSQ) of a sign: tanh stretched so that it reaches -1 and 1 at the clipping range.

    g(u)  = s tanh(k clip(u, -w, w))                 s = 1 / (1 - alpha)
    g'(u) = s k (1 - tanh(k u)^2) 1{|u| <= w}        k = log(2 / alpha - 1) / (2 w)          mass 2
    alpha = initial_alpha^(1 - p) final_alpha^p      after a fraction p of training

alpha = 1 - tanh(k w) says how far plain tanh would stay from 1 at the border: towards 1 the window of half-width w
(normalized), towards 0 the sign itself.

**Differs from the paper**: there the range and alpha are learned in every layer, and each interval between two codes of
a k-bit quantizer has its own tanh. Here the range is that of a sign, one interval of length 2 w around zero, whatever
the quantizer; it is a setting, and alpha shrinks by a schedule, whose ends are our choice.

**Reference**: R. Gong et al., Differentiable Soft Quantization: Bridging Full-Precision and Low-Bit Neural Networks,
2019, arXiv 1908.05033.
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lowbit.surrogates._base import Surrogate, geometric, sech_squared
from lowbit.variant import Fraction, Positive, variant


@variant
class DSQ(Surrogate):
    """Soft sign of differentiable soft quantization, clipped where it reaches the codes.

    Args:
        width: w, where the soft sign reaches -1 and 1, in units of one code.
        initial_alpha: alpha at the start of training.
        final_alpha: alpha at the end of training, reached along a geometric series.
        progress: fraction of training done.
    """

    width: Positive = 1.0
    initial_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.2
    final_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    progress: Fraction = 0.0

    @property
    def alpha(self) -> float:
        """Distance of plain tanh from 1 at the border, at this progress."""
        return geometric(self.initial_alpha, self.final_alpha, self.progress)

    @property
    def k(self) -> float:
        """Steepness of the tanh."""
        return (math.log1p(1.0 - self.alpha) - math.log(self.alpha)) / (2.0 * self.width)  # 2 / alpha may overflow

    @property
    def s(self) -> float:
        """Stretch of the tanh."""
        return 1.0 / (1.0 - self.alpha)

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """s k (1 - tanh(k u)^2) in the range (borders included), 0 outside."""
        return (self.s * self.k) * sech_squared(self.k * u) * (u.abs() <= self.width)

    def antiderivative(self, u: Tensor) -> Tensor:
        """s tanh(k u) of the clipped u."""
        return self.s * torch.tanh(self.k * u.clamp(-self.width, self.width))

    @property
    def mass(self) -> float:
        """2, for every alpha and width."""
        return 2.0
