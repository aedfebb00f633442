"""Guided evolution strategies: random directions, most of them inside the span of straight-through gradients.

    e_i ~ N(0, S),  S = (a / D) I + ((1 - a) / k) U U^T
    g = 1 / (2 n sigma) sum_i [L(theta + sigma e_i) - L(theta - sigma e_i)] e_i

U is an orthonormal basis of k straight-through gradients: the first at theta, the others at theta + spread * N(0, I).
S has trace 1, so that a step has length sigma, where one of NES has sigma sqrt(D). For a linear loss with gradient h
the mean of g is S h: biased towards the span, which is what buys the lower variance. Dependent gradients are counted
once; without any (all zero) the search is isotropic, S = I / D.

**Differs from the paper**: its factor beta only scales g and is 1; its gradients come from the past of a training run,
which a single question does not have.

**Reference**: N. Maheswaranathan, L. Metz, G. Tucker, D. Choi, J. Sohl-Dickstein, Guided evolutionary strategies:
Augmenting random search with surrogate gradients, 2018, arXiv 1806.10230.
"""

import math

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters, gaussian
from lowbit.variant import Count, Fraction, Positive, variant


@variant
class GuidedES(Estimator):
    """Evolution strategies guided by straight-through gradients.

    Args:
        sigma: length of a step.
        samples: n, antithetic pairs.
        alpha: a, share of the variance that is spread over all directions; 0 searches inside the span alone.
        gradients: straight-through gradients that span the subspace.
        spread: standard deviation of the points at which the second and further gradients are taken.
    """

    sigma: Positive = 0.1
    samples: Count = 500
    alpha: Fraction = 0.5
    gradients: Count = 1
    spread: Positive = 0.01

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Weighted mean of the noise; one evaluation for each gradient and two for each pair."""
        basis = self._basis(objective, generator)
        sums, done = {n: torch.zeros_like(t, dtype=torch.float64) for n, t in objective.parameters.items()}, 0
        while done < self.samples:
            count = min(objective.stack_size, self.samples - done)
            noise = self._noise(objective, basis, count, generator)
            plus, minus = objective.paired_losses(noise, (self.sigma,))[0].double()
            for name, e in noise.items():
                sums[name] += torch.einsum("k,k...->...", plus - minus, e.double())
            done += count
        like, divisor = objective.parameters, 2 * self.samples * self.sigma
        return {n: (s / divisor).to(like[n].dtype) for n, s in sums.items()}, 2 * self.samples + self.gradients

    def _basis(self, objective: Objective, generator: torch.Generator) -> Tensor:
        """Orthonormal rows that span the gradients, shape (k, D), float64."""
        found = [objective.gradient()]
        for _ in range(self.gradients - 1):
            noise = gaussian(objective.parameters, 1, generator)
            near = {n: t + self.spread * noise[n][0] for n, t in objective.parameters.items()}
            found.append(objective.gradient(at=near))
        rows = torch.stack([torch.cat([t.flatten().double() for t in g.values()]) for g in found])
        _, lengths, basis = torch.linalg.svd(rows, full_matrices=False)
        return basis[(lengths > 1e-6 * lengths[0]) & (lengths > 0)]

    def _noise(self, objective: Objective, basis: Tensor, count: int, generator: torch.Generator) -> Parameters:
        """Draws of covariance S, each tensor with a leading dimension `count`."""
        everywhere, like = gaussian(objective.parameters, count, generator), next(iter(objective.parameters.values()))
        alpha = self.alpha if len(basis) else 1.0
        inside = torch.zeros(count, objective.size, dtype=like.dtype, device=like.device)
        if len(basis):
            weights = torch.randn(count, len(basis), generator=generator, dtype=like.dtype, device=like.device)
            inside = math.sqrt((1 - alpha) / len(basis)) * (weights @ basis.to(like.dtype))
        parts = inside.split([t.numel() for t in objective.parameters.values()], 1)
        wide = math.sqrt(alpha / objective.size)
        return {n: wide * e + part.view_as(e) for (n, e), part in zip(everywhere.items(), parts, strict=True)}
