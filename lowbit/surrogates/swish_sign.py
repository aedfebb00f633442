"""SwishSign: the derivative of a smooth sign that overshoots, so that it is negative on both flanks.

    g(u)  = 2 sigma(b u) (1 + b u (1 - sigma(b u))) - 1  =  tanh(x) + x sech(x)^2,           x = b u / 2
    g'(u) = b (2 - b u tanh(b u / 2)) / (1 + cosh(b u))  =  b (1 - x tanh(x)) sech(x)^2      mass 2

The right-hand sides are what is computed: cosh would overflow. g' is below zero for |u| > 2.4 / b.

**Reference**: S. Darabi, M. Belbahri, M. Courbariaux, V. Partovi Nia, BNN+: Improved Binary Network Training, 2018,
arXiv 1812.11800.
"""

import torch
from torch import Tensor

from lowbit.surrogates._base import Surrogate, sech_squared
from lowbit.variant import Positive, variant

_FAR = 400.0  # sech(400)^2 is zero in float64, and stays so when multiplied by 400; infinity would give NaN


@variant
class SwishSign(Surrogate):
    """Bell with negative flanks, from BNN+.

    Args:
        b: steepness; the larger, the closer to the derivative of the sign.
    """

    b: Positive = 5.0

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """b (1 - x tanh(x)) sech(x)^2."""
        x = self._x(u)
        return self.b * (1.0 - x * torch.tanh(x)) * sech_squared(x)

    def antiderivative(self, u: Tensor) -> Tensor:
        """tanh(x) + x sech(x)^2."""
        x = self._x(u)
        return torch.tanh(x) + x * sech_squared(x)

    @property
    def mass(self) -> float:
        """2: what the flanks take is what the bell has too much."""
        return 2.0

    def _x(self, u: Tensor) -> Tensor:
        return (u * (0.5 * self.b)).clamp(-_FAR, _FAR)
