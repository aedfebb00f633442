"""Perturbed straight-through estimator: search along the straight-through direction and along directions near it.

    d_0 = g / |g|,  d_k = normalise(g / |g| + rho e_k / |e_k|),  e_k ~ N(0, I),  k = 1 .. K
    step = -r d_k with the least L(theta - r d_k) over k = 0 .. K and the rates r

Norms are over all tensors together. k = 0 takes part, so that the step is never worse than that of the straight-through
gradient on the same rates and batch. It is the best of many on one batch: on other samples the advantage shrinks.

**Reference**: none known. Zeroth-order steps mixed with the straight-through direction: FOGZO, 2025, arXiv 2510.23926.
"""

from typing import Annotated

import torch
from pydantic import Field

from lowbit.estimators._base import Estimator, Objective, Parameters, gaussian, norm
from lowbit.variant import NonNegativeInt, Positive, variant


@variant
class PerturbedSTE(Estimator):
    """Best step along the straight-through gradient and directions near it.

    Args:
        samples: K, perturbed directions; 0 scans the rates of the straight-through gradient alone.
        rho: length of the perturbation of the unit gradient; the angle to it is about arctan(rho).
        rates: step lengths that are tried along each direction.
    """

    samples: NonNegativeInt = 10
    rho: Positive = 0.5
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

    is_step = True

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Minus the best step; one evaluation for the gradient and one for each direction and rate."""
        straight = _unit(objective.gradient())
        rates = next(iter(straight.values())).new_tensor(self.rates)
        best, found = float("inf"), {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
        for number in range(self.samples + 1):
            candidate = straight
            if number:
                # One draw at a time, so that fewer samples are a prefix of more.
                noise = _unit({n: e[0] for n, e in gaussian(objective.parameters, 1, generator).items()})
                candidate = _unit({n: g + self.rho * noise[n] for n, g in straight.items()})
            losses = objective.line_losses(candidate, rates)
            which = int(losses.argmin())
            if losses[which] < best:
                best, found = float(losses[which]), {n: self.rates[which] * d for n, d in candidate.items()}
        return found, 1 + (self.samples + 1) * len(self.rates)


def _unit(direction: Parameters) -> Parameters:
    """The direction at length 1; zero stays zero."""
    length = float(norm(direction))
    return {n: t / length for n, t in direction.items()} if length > 0 else direction
