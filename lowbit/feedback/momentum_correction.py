"""Momentum correction of Deep Gradient Compression: momentum is taken before compression, on each worker alone.

    g = g min(1, clip / (sqrt(P) |g|))      local clipping, P workers
    u = m u + g                             or u = m (u + g) and g on top of it, Nesterov
    v = v + u;   sent = C(v);   v = v - sent
    u = 0 where sent                        momentum factor masking

The optimizer that gets the sum of what is sent must have no momentum of its own: with density 1 and no masking this is
SGD with momentum.

**Differs from the paper**: clipping goes by the norm of the tensor given, not of all tensors together. Densities of the
first epochs are a setting; the paper takes 0.25, 0.0625, 0.015625, 0.004.

**Reference**: Y. Lin, S. Han, H. Mao, Y. Wang, W. J. Dally, Deep Gradient Compression: Reducing the Communication
Bandwidth for Distributed Training, 2017, arXiv 1712.01887.
"""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lowbit.feedback._base import Feedback
from lowbit.variant import Count, NonNegative, OpenFraction, variant


@variant
class MomentumCorrection(Feedback):
    """Momentum before compression, with clipping, masking and a warm-up of the density.

    Args:
        momentum: m.
        nesterov: whether the gradient counts once more than in the momentum.
        clip: largest norm of the sum over workers that a tensor's gradient may lead to; 0 for no clipping.
        workers: P, among which the norm is shared.
        masking: whether momentum is forgotten where entries are sent.
        warmup: densities of the first epochs, one each.
    """

    buffers: ClassVar[tuple[str, ...]] = ("residual", "velocity")
    momentum: OpenFraction = 0.9
    nesterov: bool = False
    clip: NonNegative = 0.0
    workers: Count = 1
    masking: bool = True
    warmup: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()

    def increment(self, gradient: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """The momentum with this gradient in it."""
        velocity = buffers["velocity"]
        share = self._share(gradient)
        if not self.nesterov:
            return velocity.mul_(self.momentum).add_(gradient, alpha=share)
        velocity.add_(gradient, alpha=share).mul_(self.momentum)
        return velocity.add(gradient, alpha=share)

    def sent(self, indices: Tensor | None, buffers: dict[str, Tensor]) -> None:
        """Forget the momentum of what was sent."""
        if not self.masking:
            return
        if indices is None:
            buffers["velocity"].zero_()
        else:
            buffers["velocity"][indices] = 0

    def density(self, target: float, epoch: int) -> float:
        """The warm-up's density, never below the target."""
        return max(target, self.warmup[epoch]) if epoch < len(self.warmup) else target

    def _share(self, gradient: Tensor) -> float:
        """What clipping leaves of a gradient."""
        if self.clip == 0 or gradient.numel() == 0:
            return 1.0
        norm = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
        return min(1.0, self.clip / (math.sqrt(self.workers) * norm)) if norm > 0 else 1.0
