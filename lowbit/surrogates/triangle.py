"""Triangle (ApproxSign): the derivative of a parabola on either side of zero.

    g(u)  = 2 u - u |u| for |u| <= 1, else sign(u)
    g'(u) = max(2 - 2 |u|, 0)                        mass 2

BinaryDuo's Polynomial is this function: drawn for a step from 0 to 1 at 1/2 it is a triangle on [0, 1] of height 2, and
with u = 2 x - 1 and g(u) = 2 f(x) - 1 the slope stays, g'(u) = f'(x), while the support becomes [-1, 1].

**Reference**: Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng, Bi-Real Net: Enhancing the Performance of 1-bit CNNs
With Improved Representational Capability and Advanced Training Algorithm, 2018, arXiv 1808.00278.
"""

from torch import Tensor

from lowbit.surrogates._base import Surrogate
from lowbit.variant import variant


@variant
class Triangle(Surrogate):
    """ApproxSign of Bi-Real Net: steepest at zero, nothing beyond one."""

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """max(2 - 2 |u|, 0)."""
        return (2.0 - 2.0 * u.abs()).clamp(min=0.0)

    def antiderivative(self, u: Tensor) -> Tensor:
        """2 u - u |u| of u clipped to [-1, 1]."""
        clipped = u.clamp(-1.0, 1.0)
        return clipped * (2.0 - clipped.abs())

    @property
    def mass(self) -> float:
        """2."""
        return 2.0
