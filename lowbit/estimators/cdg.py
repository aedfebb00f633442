"""Coordinate discrete gradient (CDG): a central difference along each coordinate.

    g_i = [L(theta + epsilon e_i) - L(theta - epsilon e_i)] / (2 epsilon)

This is the derivative of the loss smoothed uniformly over +-epsilon along coordinate i alone; it is not in general the
gradient of one function. On a batch of B samples it counts roundings that flip, so its relative noise falls as
(B epsilon)^-1/2 while its bias grows as epsilon^2: B epsilon >= 1000 keeps both small.

**Reference**: H. Kim, K. Kim, J. Kim, J.-J. Kim, BinaryDuo: Reducing Gradient Mismatch in Binary Activation Network by
Coupling Binary Activations, 2020, arXiv 2002.06517.
"""

from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters
from lowbit.estimators._coordinates import coordinate_losses
from lowbit.variant import Count, Positive, variant


@variant
class CDG(Estimator):
    """Central difference along each coordinate: two evaluations per coordinate.

    Args:
        epsilon: half-width of the difference.
        coordinates: how many, drawn at random, are estimated (the others are 0); null estimates all.
        method: `loop` moves one weight at a time, `stacked` evaluates many networks at once, `incremental` recomputes
            only what a moved weight touches, where the objective knows how, else as `stacked`. The same numbers.
    """

    epsilon: Positive = 0.1
    coordinates: Count | None = None
    method: Literal["loop", "stacked", "incremental"] = "incremental"

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Central differences, 2 evaluations each."""
        chosen = self._chosen(objective, generator)
        shifts = (self.epsilon, -self.epsilon)
        result = {}
        for name, tensor in objective.parameters.items():
            plus, minus = coordinate_losses(objective, name, chosen[name], shifts, self.method).unbind(1)
            flat = torch.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
            flat[chosen[name]] = ((plus - minus) / (2 * self.epsilon)).to(tensor.dtype)
            result[name] = flat.view_as(tensor)
        return result, 2 * sum(len(indices) for indices in chosen.values())

    def _chosen(self, objective: Objective, generator: torch.Generator) -> dict[str, Tensor]:
        sizes = {n: t.numel() for n, t in objective.parameters.items()}
        if self.coordinates is None or self.coordinates >= objective.size:
            return {n: torch.arange(size) for n, size in sizes.items()}
        drawn = torch.randperm(objective.size, generator=generator)[: self.coordinates].sort().values
        result, start = {}, 0
        for name, size in sizes.items():
            result[name] = drawn[(drawn >= start) & (drawn < start + size)] - start
            start += size
        return result
