"""What estimators for stochastic binary networks are given, and how those that sample it sum up.

    phi_l = logits of layer l from the states below,  P(bit = 1) = sigmoid(phi_l),  state = 2 bit - 1
    L = mean over the batch of E loss(states of the last layer)

The expectation is over all states of all units, which are independent within a layer given the states below. One
uniform number u belongs to each unit of each sample: bit = 1 where u < sigmoid(phi).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit.errors import SettingError
from lowbit.estimators._base import Estimator, Objective, Parameters


class StochasticBinaryObjective(Objective):
    """The expected loss of a network of stochastic binary units.

    Its `loss` is that expectation, exactly, and can be differentiated, so that `gradient` is exact too.

    Attributes:
        layers: names of the weights, from the inputs upwards.
        widths: units of each layer.
        inputs: shape (B, inputs).
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    inputs: Tensor

    @abstractmethod
    def logits(self, parameters: Parameters, layer: int, below: Tensor) -> Tensor:
        """Logits of a layer, shape (..., units); differentiable.

        Args:
            parameters: tensors that replace the objective's own; may be some of them.
            layer: number of the layer, from 0.
            below: states of the layer below, or the inputs, shape (..., units below).
        """

    @abstractmethod
    def sample_losses(self, top: Tensor) -> Tensor:
        """Loss of each sample given the states of the last layer, shape (..., B, units) -> (..., B); differentiable."""

    def uniforms(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """Uniform numbers of each layer, shapes (count, B, units)."""
        like, batch = {"dtype": self.inputs.dtype, "device": self.inputs.device}, len(self.inputs)
        return [torch.rand(count, batch, width, generator=generator, **like) for width in self.widths]

    def run(self, uniforms: Sequence[Tensor], first: int = 0, bits: Tensor | None = None) -> "Run":
        """One sample of the network for each row of uniform numbers.

        Args:
            uniforms: of each layer.
            first: number of the lowest layer that is drawn.
            bits: of the layer below `first`; not needed when that is 0.
        """
        whole = self.inputs.expand(len(uniforms[0]), *self.inputs.shape)
        below = whole if bits is None else states(bits, whole.dtype)
        drawn, logits = [], []
        for layer in range(first, len(self.layers)):
            logits.append(self.logits(self.parameters, layer, below))
            drawn.append(uniforms[layer] < logits[-1].sigmoid())
            below = states(drawn[-1], whole.dtype)
        return Run(bits=drawn, logits=logits, losses=self.sample_losses(below))


@dataclass(frozen=True, kw_only=True)
class Run:
    """Samples of a network.

    Args:
        bits: of each layer that was drawn, bool, shape (samples, B, units).
        logits: of those layers.
        losses: shape (samples, B).
    """

    bits: list[Tensor]
    logits: list[Tensor]
    losses: Tensor


def states(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 and 1 for bits 0 and 1."""
    return bits.to(dtype).mul_(2).sub_(1)


def required(objective: Objective, estimator: Estimator) -> StochasticBinaryObjective:
    """The objective, if it is of stochastic binary units.

    Raises:
        SettingError: when it is not.
    """
    if isinstance(objective, StochasticBinaryObjective):
        return objective
    raise SettingError(
        f"estimator {type(estimator).__name__}: must be given a network of stochastic binary units, got "
        f"{type(objective).__name__}; use it on the problem stochastic_binary"
    )


class LogitEstimator(Estimator):
    """An estimator that averages, over samples of the network, gradients with respect to logits.

    With q_l an unbiased estimate of dL/dphi_l given the states below layer l, the mean of q_l dphi_l/dW_l is one of
    dL/dW_l. A subclass has the setting `samples` and says what q_l is.
    """

    samples: int

    @abstractmethod
    def logit_gradients(self, objective: StochasticBinaryObjective, uniforms: list[Tensor]) -> tuple[Run, list[Tensor]]:
        """Samples of the network, and an estimate of dL/dphi for each, layer by layer, (samples, B, units).

        Args:
            objective: the network.
            uniforms: from which the samples are drawn.
        """

    def evaluations(self, objective: StochasticBinaryObjective) -> int:
        """Forward evaluations on the batch."""
        return self.samples

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Mean over the samples, in blocks of bounded memory."""
        network = required(objective, self)
        total = {n: torch.zeros_like(t) for n, t in network.parameters.items()}
        block = max(1, network.stack_size)
        for start in range(0, self.samples, block):
            uniforms = network.uniforms(min(block, self.samples - start), generator)
            with torch.no_grad():
                run, gradients = self.logit_gradients(network, uniforms)
            for name, part in _through_logits(network, run, gradients).items():
                total[name] += part
        scale = self.samples * len(network.inputs)
        return {n: t / scale for n, t in total.items()}, self.evaluations(network)


def _through_logits(network: StochasticBinaryObjective, run: Run, gradients: list[Tensor]) -> Parameters:
    """Sums over samples and batch of dphi/dW times the given dL/dphi."""
    leaves = {n: t.clone().requires_grad_() for n, t in network.parameters.items()}
    total, below = network.inputs.new_zeros(()), network.inputs
    for layer, (bits, gradient) in enumerate(zip(run.bits, gradients, strict=True)):
        if network.layers[layer] in leaves:
            total = total + (network.logits(leaves, layer, below) * gradient).sum()
        below = states(bits, network.inputs.dtype)
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


class AntitheticEstimator(LogitEstimator):
    """An estimator from pairs of one layer's states that the numbers u and 1 - u give.

        q_l = [f(bits) - f(mirrored bits)] * weight,  f the loss with the layers above drawn from shared numbers

    Each sample runs the network once, and once more above each studied layer.
    """

    @abstractmethod
    def weight(self, logits: Tensor, uniforms: Tensor, bits: Tensor, mirrored: Tensor) -> Tensor:
        """What multiplies the difference of the losses, of the logits' shape."""

    def evaluations(self, objective: StochasticBinaryObjective) -> int:
        """One forward evaluation for each sample, and one for each of its mirrored layers."""
        return self.samples * (1 + len(objective.parameters))

    def logit_gradients(self, objective: StochasticBinaryObjective, uniforms: list[Tensor]) -> tuple[Run, list[Tensor]]:
        """Difference of the pair's losses times the weight; 0 for layers that are not studied."""
        run, gradients = objective.run(uniforms), []
        for layer, (bits, logits, u) in enumerate(zip(run.bits, run.logits, uniforms, strict=True)):
            if objective.layers[layer] not in objective.parameters:
                gradients.append(torch.zeros_like(logits))
                continue
            mirrored = 1 - u < logits.sigmoid()
            other = objective.run(uniforms, layer + 1, mirrored).losses
            gradients.append((run.losses - other).unsqueeze(-1) * self.weight(logits, u, bits, mirrored))
        return run, gradients
