"""Exact gradient of a stochastic binary network, by summing over all states of its units.

    dL/dW = sum over states of dP(states)/dW loss(states)

The sum is taken layer by layer, for the states of a layer depend on the layer below alone; it counts as one evaluation
of the loss for each joint state.
"""

import torch

from lowbit.estimators._base import Estimator, Objective, Parameters
from lowbit.estimators._stochastic_binary import required
from lowbit.variant import variant


@variant
class Enumeration(Estimator):
    """The exact gradient: the reference for every estimator that samples."""

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Derivative of the exact expectation, 2^units evaluations."""
        network = required(objective, self)
        return network.gradient(), 2 ** sum(network.widths)
