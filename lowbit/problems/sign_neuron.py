"""One sign neuron learns another on Gaussian inputs: population loss and gradient are known in closed form.

    L(w) = E (sign(w.x) - sign(v.x))^2 = 4 theta / pi,  theta the angle between w and v, x ~ N(0, I)
    gradient            -(4 / pi) (v^ - cos(theta) w^) / (sin(theta) |w|)            w^ = w / |w|
    straight-through    2 sqrt(2 / pi) (w^ - v^) on average, with the identity as surrogate

The straight-through direction is therefore at the angle theta / 2 to the gradient. A narrower window turns it towards
the gradient and lets fewer samples pass: bias against variance in its purest form.

**Reference**: for straight-through gradients of Gaussian inputs P. Yin, J. Lyu, S. Zhang, S. Osher, Y. Qi, J. Xin,
Understanding Straight-Through Estimator in Training Activation Quantized Neural Nets, 2019, arXiv 1903.05662.
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lowbit.estimators._base import Parameters
from lowbit.problems._base import Problem, stream
from lowbit.problems._mlp import MlpObjective
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates._base import Surrogate
from lowbit.variant import Positive, variant


@variant
class SignNeuron(Problem):
    """Neuron against neuron, both of sign activation, in float64.

    Args:
        dim: inputs.
        angle: between the two weight vectors at the start, radians.
        length: of the student's weights at the start, which is the standard deviation of its pre-activation.

    Example:
        >>> problem = SignNeuron(angle=1.0)
        >>> round(problem.population_loss(problem.start(0)) * math.pi / 4, 9)
        1.0
    """

    dim: Annotated[int, Field(ge=2)] = 8
    angle: Annotated[float, Field(gt=0, lt=math.pi)] = 1.7
    length: Positive = 1.0

    def start(self, seed: int) -> Parameters:
        """`student.weight` and `teacher.weight`, each (1, dim)."""
        drawn = torch.randn(self.dim, 2, generator=stream(seed, "initial"), dtype=torch.float64)
        teacher, across = torch.linalg.qr(drawn).Q.T
        student = math.cos(self.angle) * teacher + math.sin(self.angle) * across
        return {"student.weight": self.length * student[None], "teacher.weight": teacher[None]}

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate,
        generator: torch.Generator,
        batch_size: int,
        names: tuple[str, ...] | None = None,
    ) -> MlpObjective:
        """The loss on a batch of standard normal inputs."""
        inputs = torch.randn(batch_size, self.dim, generator=generator, dtype=torch.float64)
        return _SignNeuronObjective(tensors["student.weight"], tensors["teacher.weight"], inputs, surrogate)

    def population_loss(self, tensors: Parameters) -> float:
        """4 theta / pi."""
        return 4 / math.pi * float(torch.acos(_cosine(tensors["student.weight"], tensors["teacher.weight"])))


class _SignNeuronObjective(MlpObjective):
    """A perceptron of one unit whose readout passes it on."""

    def __init__(self, weight: Tensor, teacher: Tensor, inputs: Tensor, surrogate: Surrogate):
        quantizer = Uniform(levels=2)
        targets = quantizer.quantize(inputs @ teacher.T).dequantize()
        weights = {"weight": weight, "readout": weight.new_ones(1, 1)}
        super().__init__(weights, ("weight",), inputs, targets, quantizer, surrogate)
        self._teacher = teacher

    def at(self, parameters: Parameters) -> "_SignNeuronObjective":
        return type(self)(parameters["weight"], self._teacher, self.inputs, self.surrogate)

    def true_gradient(self) -> Parameters:
        """Gradient of the population loss; of no use where the two vectors are parallel, for the loss has a cusp."""
        weight, cosine = self.weights["weight"], _cosine(self.weights["weight"], self._teacher)
        length = weight.norm()
        across = self._teacher / self._teacher.norm() - cosine * weight / length
        return {"weight": -4 / math.pi * across / ((1 - cosine.square()).sqrt() * length)}


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())
