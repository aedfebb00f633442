"""Straight-through inside a window, which may shrink (or grow) while the network is trained.

    g(u)  = h clip(u, -c, c)
    g'(u) = h 1{|u| <= c}                            mass 2 c h
    c     = width^(1 - p) final_width^p              after a fraction p of training; width without a final width
    h     = 1, or 1/c when normalized

c = 1 is the clipped estimator of binarized networks. In BinaryDuo's figure, drawn for a step from 0 to 1 at 1/2, it is
called ReLU1: slope 1 on [0, 1].

**Reference**: M. Courbariaux, I. Hubara, D. Soudry, R. El-Yaniv, Y. Bengio, Binarized Neural Networks, 2016,
arXiv 1602.02830.
"""

from torch import Tensor

from lowbit.surrogates._base import Surrogate, geometric
from lowbit.variant import Fraction, Positive, variant


@variant
class Window(Surrogate):
    """Straight-through estimator that vanishes outside a window.

    Args:
        width: half-width in units of one code, at the start of training.
        final_width: half-width at the end of training, reached along a geometric series; none keeps the width.
        normalized: whether the height is raised or lowered so that the mass is 2.
        progress: fraction of training done.
    """

    width: Positive = 1.0
    final_width: Positive | None = None
    normalized: bool = False
    progress: Fraction = 0.0

    @property
    def current_width(self) -> float:
        """c: the half-width at this progress."""
        return geometric(self.width, self.final_width, self.progress)

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """h inside the window (borders included), 0 outside."""
        inside = (u.abs() <= self.current_width).to(u.dtype)
        return inside / self.current_width if self.normalized else inside

    def antiderivative(self, u: Tensor) -> Tensor:
        """h clip(u, -c, c)."""
        clipped = u.clamp(-self.current_width, self.current_width)
        return clipped / self.current_width if self.normalized else clipped

    @property
    def mass(self) -> float:
        """2 c h."""
        return 2.0 if self.normalized else 2.0 * self.current_width
