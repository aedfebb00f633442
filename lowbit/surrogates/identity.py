"""Straight-through: the rounding is passed over as if it were the identity.

    g(u)  = u
    g'(u) = 1                                        mass infinite

**Reference**: Y. Bengio, N. Leonard, A. Courville, Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation, 2013, arXiv 1308.3432.
"""

import math

import torch
from torch import Tensor

from lowbit.surrogates._base import Surrogate, _Attached
from lowbit.variant import variant


@variant
class Identity(Surrogate):
    """Straight-through estimator: dL/dW is exactly dL/dW_hat, as in the official BitNet recipe."""

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """1 everywhere."""
        return torch.ones_like(u)

    def antiderivative(self, u: Tensor) -> Tensor:
        """u itself."""
        return u

    @property
    def mass(self) -> float:
        """Infinite."""
        return math.inf

    def attach(self, value: Tensor, quantized: Tensor, scale: Tensor) -> Tensor:
        """The quantized value; gradients pass as they are, and no tensor of ones is made for them."""
        return _Attached.apply(value, quantized.detach(), None)
