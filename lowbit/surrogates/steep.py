"""Steep: half as wide as the window of 1 and twice as high.

    g(u)  = clip(2 u, -1, 1)
    g'(u) = 2 * 1{|u| <= 1/2}                        mass 2

BinaryDuo draws it as Steep2 for a step from 0 to 1 at 1/2: slope 2 on [1/4, 3/4]. With u = 2 x - 1 the slope stays and
the support becomes [-1/2, 1/2]: the window of half-width 1/2, normalized.

**Reference**: H. Kim, K. Kim, J. Kim, J.-J. Kim, BinaryDuo: Reducing Gradient Mismatch in Binary Activation Network by
Coupling Binary Activations, 2020, arXiv 2002.06517.
"""

from torch import Tensor

from lowbit.surrogates._base import Surrogate
from lowbit.variant import variant


@variant
class Steep(Surrogate):
    """Slope 2 within half a code of zero: rises as far as the sign does, in half the room of the clipped estimator."""

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """2 inside the window (borders included), 0 outside."""
        return (u.abs() <= 0.5).to(u.dtype) * 2.0

    def antiderivative(self, u: Tensor) -> Tensor:
        """clip(2 u, -1, 1)."""
        return (2.0 * u).clamp(-1.0, 1.0)

    @property
    def mass(self) -> float:
        """2."""
        return 2.0
