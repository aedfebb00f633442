"""Straight-through estimator with stochastic rounding (sr-STE): the mean of N gradients, each with its own signs.

    A~ = A / max A where A > 0, A / |min A| where A < 0          over the activations of one layer on the batch
    p = (A~ + 1) / 2, clipped to [1e-6, 1 - 1e-6]
    y = sigmoid((logit p + logit u) / tau), u ~ U(0, 1),  b = sign(y - 1/2)

b is +1 with probability p for every temperature, so E b = A~: tau matters only if the gradient flows through y. What
backward uses for db/dA:

    identity            1
    window              1 where |A| <= 1, else 0
    inverse_scale       dA~/dA = 1 / max A or 1 / |min A|
    through_relaxation  d(2 y - 1)/dA

Gradients are averaged before anything is normalised. A loss that is itself rounded stochastically is another loss, and
must not be compared with that of the plain sign. Hence `evaluation`.

**Reference**: relaxed Bernoulli variables: C. J. Maddison, A. Mnih, Y. W. Teh, The Concrete Distribution, 2016, arXiv
1611.00712. The rounding is that of the study's notes; no publication of it is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters, Rounding
from lowbit.quantizers._base import Quantizer
from lowbit.variant import Count, Positive, variant

_LEAST = 1e-6  # probability of the rarer sign


@variant
class SRSTE(Estimator):
    """Straight-through gradient averaged over stochastic roundings.

    Args:
        samples: N, gradients averaged.
        backward: derivative of the rounding.
        temperature: tau of the relaxation; without effect on the signs, and used by `through_relaxation` alone.
        evaluation: where signs are drawn. `plain`: in the passes that give the gradient, while the losses before and
            after the step are those of the plain sign. `both`: in those losses as well. `gradient_only`: in the
            derivative alone, while the passes that give the gradient have plain signs too; needs `through_relaxation`,
            the one derivative that depends on the draw.
    """

    samples: Count = 1
    backward: Literal["identity", "window", "through_relaxation", "inverse_scale"] = "identity"
    temperature: Positive = 1.0
    evaluation: Literal["plain", "both", "gradient_only"] = "plain"

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Mean of N gradients.

        Raises:
            ValueError: for `gradient_only` with a derivative that has no noise.
        """
        if self.evaluation == "gradient_only" and self.backward != "through_relaxation":
            raise ValueError(
                f"evaluation gradient_only with backward {self.backward}: must be through_relaxation, for the other "
                "derivatives do not depend on the draw; choose that, or evaluation plain"
            )
        rounding, total = self.rounding(generator), {}
        for _ in range(self.samples):
            gradient = objective.gradient(rounding)
            total = {n: total[n] + g for n, g in gradient.items()} if total else gradient
        return {n: t / self.samples for n, t in total.items()}, self.samples

    def evaluation_rounding(self, generator: torch.Generator) -> Rounding | None:
        """Stochastic signs where losses are to be evaluated with them, else None."""
        return self.rounding(generator) if self.evaluation == "both" else None

    def rounding(self, generator: torch.Generator) -> Rounding:
        """The stochastic rounding with fresh signs at each call."""
        return _Draw(self, generator)


@dataclass(frozen=True)
class _Draw:
    """A pre-activation to its signs."""

    settings: SRSTE
    generator: torch.Generator

    def __call__(self, z: Tensor, quantizer: Quantizer) -> Tensor:
        if quantizer.bits != 1:
            raise ValueError(f"sr_ste: a rounding of {quantizer.bits:g} bits; must be 1 bit; use binary activations")
        a = z.detach()
        scale = torch.where(a > 0, a.amax(), -a.amin()).clamp(min=torch.finfo(a.dtype).tiny)
        p = (a / scale + 1) / 2
        inside = (p > _LEAST) & (p < 1 - _LEAST)
        p = p.clamp(_LEAST, 1 - _LEAST)
        uniform = torch.rand(a.shape, generator=self.generator, dtype=a.dtype, device=a.device)
        logit = torch.logit(p) + torch.logit(uniform)
        slope = _SLOPES[self.settings.backward](a, scale, p, inside, torch.sigmoid(logit / self.settings.temperature))
        if self.settings.backward == "through_relaxation":
            slope = slope / self.settings.temperature
        # The sign of the logit is that of y - 1/2, and cannot be lost in rounding at a high temperature.
        plain = self.settings.evaluation == "gradient_only"
        signs = torch.where((a if plain else logit) >= 0, torch.ones_like(a), -torch.ones_like(a))
        return signs + slope * (z - a)


_SLOPES: dict[str, Callable[..., Tensor]] = {
    "identity": lambda a, scale, p, inside, y: torch.ones_like(a),
    "window": lambda a, scale, p, inside, y: (a.abs() <= 1).to(a.dtype),
    "inverse_scale": lambda a, scale, p, inside, y: 1 / scale,
    "through_relaxation": lambda a, scale, p, inside, y: inside * y * (1 - y) / (p * (1 - p) * scale),
}
