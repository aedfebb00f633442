"""Straight-through estimator with a random derivative: the forward pass is the network's own, the backward pass is not.

    window:     1 where |u| <= c, else 0, with one c ~ U(low, high) for each rounding of each pass
    bernoulli:  m sign(s(u)) with probability |s(u)| / m, else 0;  m = max |s| / keep, s the objective's surrogate

The mean of the first is the trapezoid clip((high - |u|) / (high - low), 0, 1); the mean of the second is s itself.
Layers draw independently and the gradient is linear in the derivative of each layer, so that its mean is the gradient
with the mean derivatives: the estimate is unbiased for that surrogate.

**Reference**: none known.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters, Rounding
from lowbit.quantizers._base import Quantizer
from lowbit.surrogates._base import Surrogate
from lowbit.surrogates.window import Window
from lowbit.variant import Count, NonNegative, Positive, variant


@variant
class StochasticBackward(Estimator):
    """Straight-through gradient with derivatives drawn at random.

    Args:
        noise: a random window, or a random mask with the surrogate as its mean.
        low: least half-width of the window.
        width: range of half-widths, high - low.
        keep: probability that a gradient passes where the surrogate is largest.
        samples: gradients averaged.
    """

    noise: Literal["window", "bernoulli"] = "window"
    low: NonNegative = 0.5
    width: Positive = 1.0
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    samples: Count = 1

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Mean of the gradients.

        Raises:
            ValueError: for `bernoulli` on an objective without a surrogate.
        """
        rounding, total = self._rounding(objective, generator), {}
        for _ in range(self.samples):
            gradient = objective.gradient(rounding)
            total = {n: total[n] + g for n, g in gradient.items()} if total else gradient
        return {n: t / self.samples for n, t in total.items()}, self.samples

    def _rounding(self, objective: Objective, generator: torch.Generator) -> Rounding:
        if self.noise == "window":
            return _RandomWindow(self.low, self.width, generator)
        surrogate = objective.surrogate
        if surrogate is None:
            raise ValueError(
                f"stochastic_backward: noise bernoulli on {type(objective).__name__}, which names no surrogate; must "
                "have one, as objectives of perceptrons do; use noise window instead"
            )
        return _RandomMask(surrogate, self.keep, generator)


@dataclass(frozen=True)
class _RandomWindow:
    """A rounding whose window is drawn at each call."""

    low: float
    width: float
    generator: torch.Generator

    def __call__(self, z: Tensor, quantizer: Quantizer) -> Tensor:
        drawn = torch.rand((), generator=self.generator, dtype=torch.float64, device=self.generator.device)
        half_width = self.low + self.width * float(drawn)
        return quantizer.fake_quantize(z, Window(width=max(half_width, torch.finfo(z.dtype).tiny)))


@dataclass(frozen=True)
class _RandomMask:
    """A rounding whose derivative is 0 or of one height, with a surrogate as its mean."""

    surrogate: Surrogate
    keep: float
    generator: torch.Generator

    def __call__(self, z: Tensor, quantizer: Quantizer) -> Tensor:
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            rounded = quantizer.fake_quantize(leaf, self.surrogate)
        (slope,) = torch.autograd.grad(rounded.sum(), leaf)  # entry by entry, in whatever units the quantizer uses
        height = slope.abs().max() / self.keep
        uniform = torch.rand(z.shape, generator=self.generator, dtype=z.dtype, device=z.device)
        mask = torch.where(uniform * height < slope.abs(), height * slope.sign(), torch.zeros_like(slope))
        return rounded.detach() + mask * (z - z.detach())
