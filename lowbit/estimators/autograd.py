"""Backpropagation with a surrogate for the derivative of each rounding: the straight-through estimator (STE).

    g = dL/dtheta, with d round(z) / dz replaced by the surrogate's derivative at z

The surrogate belongs to the objective. Without roundings this is the gradient itself.

**Reference**: Y. Bengio, N. Leonard, A. Courville, Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation, 2013, arXiv 1308.3432.
"""

import torch

from lowbit.estimators._base import Estimator, Objective, Parameters
from lowbit.variant import variant


@variant
class Autograd(Estimator):
    """Straight-through estimator: backpropagation with the objective's surrogate."""

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """One backward pass."""
        return objective.gradient(), 1
