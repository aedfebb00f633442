"""Rectified straight-through estimator (ReSTE): a power function that moves from the identity towards the sign.

    g(u)  = h sign(u) P(min(|u|, threshold))         P(v) = v inner^(1/o - 1) for v <= inner, else v^(1/o)
    g'(u) = h inner^(1/o - 1)                        for |u| <= inner
          = h |u|^(1/o - 1) / o                      for inner < |u| <= threshold
          = 0                                        beyond                       mass 2 h P(threshold)
    o     = 1 + (final_power - 1) (1 - cos(p pi / 2))    after a fraction p of training
    h     = 1, or 1 / P(threshold) when normalized

The power alone would have infinite slope at zero: up to `inner` it is replaced by its chord. With o = 1 this is the
window of half-width `threshold`.

**Reference**: X.-M. Wu, D. Zheng, Z.-H. Liu, W.-S. Zheng, Estimator Meets Equilibrium Perspective: A Rectified Straight
Through Estimator for Binary Neural Networks Training, 2023, arXiv 2308.06689.
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lowbit.surrogates._base import Surrogate
from lowbit.variant import Fraction, Positive, variant


@variant
class ReSTE(Surrogate):
    """Power function clipped at a threshold, whose power grows with training.

    Args:
        final_power: o at the end of training; at the start it is 1.
        threshold: where the derivative ends, in units of one code.
        inner: up to where the derivative is constant, in units of one code.
        normalized: whether the height is changed so that the mass is 2.
        progress: fraction of training done.
    """

    final_power: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    threshold: Positive = 1.5
    inner: Positive = 0.1
    normalized: bool = False
    progress: Fraction = 0.0

    @property
    def power(self) -> float:
        """o at this progress."""
        return 1.0 + (self.final_power - 1.0) * (1.0 - math.cos(0.5 * math.pi * self.progress))

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """h times the slope of P at |u|; both borders belong to the inner side."""
        size, root = u.abs(), 1.0 / self.power
        outside = root * size.clamp(min=self.inner) ** (root - 1.0)
        slope = torch.where(size <= self.inner, self.inner ** (root - 1.0), outside)
        return self._height * slope * (size <= self.threshold)

    def antiderivative(self, u: Tensor) -> Tensor:
        """h sign(u) P(min(|u|, threshold))."""
        size, root = u.abs().clamp(max=self.threshold), 1.0 / self.power
        chord = size * self.inner ** (root - 1.0)
        risen = torch.where(size <= self.inner, chord, size.clamp(min=self.inner) ** root)
        return self._height * u.sign() * risen

    @property
    def mass(self) -> float:
        """2 h P(threshold)."""
        return 2.0 if self.normalized else 2.0 * self._reach

    @property
    def _reach(self) -> float:
        """P(threshold), also where the threshold is below `inner`."""
        root, end = 1.0 / self.power, self.threshold
        return end * self.inner ** (root - 1.0) if end <= self.inner else end**root

    @property
    def _height(self) -> float:
        return 1.0 / self._reach if self.normalized else 1.0
