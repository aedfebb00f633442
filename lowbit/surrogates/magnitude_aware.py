"""Magnitude-aware: the clipped estimator of a scaled sign, whose window and whose factor are those of the weight.

    q       = alpha sign(w)                          alpha the scale of the quantizer, a constant to the gradient
    g(w)    = clip(w, -1, 1)
    g'(w)   = 1{|w| <= 1}                            mass 2
    dq/dw   = alpha g'(w)

The others pass the gradient of q on as it is, times g'(w / alpha): there the window is alpha wide, and a channel of
small weights moves as fast as one of large ones. Where a code is worth 1, as of activations, this is `window`. Adam and
steps of unit length do not see one alpha for a tensor; they do see the window, and one alpha for each channel in a step
whose length is that of the tensor.

**Reference**: Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng, Bi-Real Net: Enhancing the Performance of 1-bit CNNs
With Improved Representational Capability and Advanced Training Algorithm, 2018, arXiv 1808.00278.
"""

from typing import ClassVar

from torch import Tensor

from lowbit.surrogates._base import Surrogate
from lowbit.variant import variant


@variant
class MagnitudeAware(Surrogate):
    """Magnitude-aware gradient of Bi-Real Net, for weights: straight-through within 1, times the scale of the code."""

    in_codes: ClassVar[bool] = False

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """1 inside the window (borders included), 0 outside."""
        return (u.abs() <= 1.0).to(u.dtype)

    def antiderivative(self, u: Tensor) -> Tensor:
        """clip(u, -1, 1)."""
        return u.clamp(-1.0, 1.0)

    @property
    def mass(self) -> float:
        """2."""
        return 2.0
