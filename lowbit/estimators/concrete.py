"""Concrete (relaxed Bernoulli) units: a pathwise gradient of a smooth stand-in for a stochastic binary network.

    y = sigmoid((phi - logit(u)) / temperature),  state = 2 y - 1,  g = mean of d loss / dW along the samples

Low temperatures come close to binary states and have a large variance; the estimate is biased at every one. With hard
states the forward pass is binary, 1{y > 1/2}, and only its derivative is that of y (straight-through Gumbel).

**Reference**: C. J. Maddison, A. Mnih, Y. W. Teh, The Concrete Distribution, 2017, arXiv 1611.00712; E. Jang, S. Gu,
B. Poole, Categorical Reparameterization with Gumbel-Softmax, 2017, arXiv 1611.01144.
"""

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters
from lowbit.estimators._stochastic_binary import StochasticBinaryObjective, required
from lowbit.variant import Count, Positive, variant


@variant
class Concrete(Estimator):
    """Pathwise gradient through relaxed Bernoulli samples.

    Args:
        samples: n, of all units, for each input.
        temperature: of the relaxation.
        hard: whether states are binary in the forward pass.
    """

    samples: Count = 100
    temperature: Positive = 0.5
    hard: bool = False

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Mean over the samples, in blocks of bounded memory."""
        network = required(objective, self)
        total = {n: torch.zeros_like(t) for n, t in network.parameters.items()}
        for start in range(0, self.samples, network.stack_size):
            count = min(network.stack_size, self.samples - start)
            leaves = {n: t.clone().requires_grad_() for n, t in network.parameters.items()}
            losses = self._losses(network, leaves, network.uniforms(count, generator))
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
            total = {n: t + g for (n, t), g in zip(total.items(), gradients, strict=True)}
        scale = self.samples * len(network.inputs)
        return {n: t / scale for n, t in total.items()}, self.samples

    def _losses(self, network: StochasticBinaryObjective, parameters: Parameters, uniforms: list[Tensor]) -> Tensor:
        below = network.inputs
        for layer, u in enumerate(uniforms):
            # y > 1/2 is u < sigmoid(phi), the bit of the other estimators; u = 0 gives y = 1 with derivative 0.
            noisy = (network.logits(parameters, layer, below) - torch.logit(u)) / self.temperature
            relaxed = 2 * noisy.sigmoid() - 1
            if self.hard:
                binary = 2 * (noisy > 0).to(relaxed.dtype) - 1
                relaxed = binary + (relaxed - relaxed.detach())
            below = relaxed
        return network.sample_losses(below)
