"""Straight-through inside a window: derivative 1 for |u| <= width, else 0. Antiderivative clip(u, -width, width).

**Reference**: M. Courbariaux, I. Hubara, D. Soudry, R. El-Yaniv, Y. Bengio, Binarized Neural Networks, 2016,
arXiv 1602.02830.
"""

from torch import Tensor

from lowbit.surrogates._base import Surrogate
from lowbit.variant import Positive, variant


@variant
class Window(Surrogate):
    """Straight-through estimator that vanishes outside a window.

    Args:
        width: half-width in units of one code.
    """

    width: Positive = 1.0

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """1 inside the window (borders included), 0 outside."""
        return (u.abs() <= self.width).to(u.dtype)
