"""A small network of stochastic binary units learns the mean output of another; its loss is known by enumeration.

    P(s_l = +1 | s_(l-1)) = sigmoid(W_l s_(l-1)),  s_0 = x ~ N(0, I),  L = mean over x of E (r . s_n - t(x))^2

t(x) is the expected output of a teacher of the same shape. The expectation goes over all states: layers form a Markov
chain, so products of 2^dim x 2^dim transition matrices give it, and their derivative gives the exact gradient.

**Differs from the paper**: the task; the size 5-5-5 in float64 is that of the reference.

**Reference**: A. Shekhovtsov, V. Yanush, B. Flach, Path Sample-Analytic Gradient Estimators for Stochastic Binary
Networks, 2020, arXiv 2006.03143.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lowbit.estimators._base import Parameters, Rounding
from lowbit.estimators._stochastic_binary import StochasticBinaryObjective
from lowbit.problems._base import Problem, stream
from lowbit.surrogates._base import Surrogate
from lowbit.variant import Count, NonNegativeInt, variant


@variant
class StochasticBinary(Problem):
    """Stochastic binary network against its like, in float64.

    Args:
        dim: units of each layer, and inputs.
        layers: of stochastic units.
        train_updates: of Adam on the exact gradient of a fixed batch, before estimators are asked.
        train_lr: of that training.
    """

    dim: Annotated[int, Field(ge=1, le=8)] = 5
    layers: Count = 3
    train_updates: NonNegativeInt = 0
    train_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that estimators may study."""
        return tuple(f"layer{number}" for number in range(1, self.layers + 1))

    def start(self, seed: int) -> Parameters:
        """`student.*` and `teacher.*`, each layers (dim, dim) and a readout (dim,)."""
        tensors, bound = {}, 2 / math.sqrt(self.dim)
        for net in ("teacher", "student"):
            draws = stream(seed, "initial", net)
            for name in (*self.names, "readout"):
                shape = (self.dim,) if name == "readout" else (self.dim, self.dim)
                tensors[f"{net}.{name}"] = bound * (2 * torch.rand(shape, generator=draws, dtype=torch.float64) - 1)
        return self._trained(tensors, seed)

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate | None,
        generator: torch.Generator,
        batch_size: int,
        names: tuple[str, ...] | None = None,
    ) -> StochasticBinaryObjective:
        """The expected loss on a batch of standard normal inputs; its roundings have no surrogate."""
        inputs = torch.randn(batch_size, self.dim, generator=generator, dtype=torch.float64)
        net = {
            whose: {name: tensors[f"{whose}.{name}"] for name in (*self.names, "readout")}
            for whose in ("student", "teacher")
        }
        teacher = _NetworkObjective(net["teacher"], (), inputs, inputs.new_zeros(()))
        return _NetworkObjective(net["student"], names or self.names, inputs, teacher.mean_output())

    def _trained(self, tensors: Parameters, seed: int) -> Parameters:
        batch = self.objective(tensors, None, stream(seed, "train"), 256)
        student = {n: t.clone().requires_grad_() for n, t in batch.parameters.items()}
        optimizer = torch.optim.Adam(student.values(), lr=self.train_lr)
        for _ in range(self.train_updates):
            optimizer.zero_grad()
            batch.loss(student).backward()
            optimizer.step()
        return {**tensors, **{f"student.{n}": t.detach() for n, t in student.items()}}


class _NetworkObjective(StochasticBinaryObjective):
    def __init__(self, weights: Parameters, names: Sequence[str], inputs: Tensor, targets: Tensor):
        super().__init__({n: weights[n] for n in weights if n in names})
        self._weights = {n: t.detach() for n, t in weights.items()}
        self.inputs, self._targets = inputs, targets
        *layers, _ = weights
        self.layers, self.widths = tuple(layers), tuple(len(weights[n]) for n in layers)
        self._states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=self.widths[-1])), dtype=inputs.dtype)
        self.elements = max(len(inputs), len(self._states)) * len(self._states)

    def at(self, parameters: Parameters) -> "_NetworkObjective":
        return type(self)({**self._weights, **parameters}, tuple(self.parameters), self.inputs, self._targets)

    def logits(self, parameters: Parameters, layer: int, below: Tensor) -> Tensor:
        name = self.layers[layer]
        return F.linear(below, parameters.get(name, self._weights[name]))

    def sample_losses(self, top: Tensor) -> Tensor:
        return (top @ self._weights["readout"] - self._targets).square()

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """The exact expectation.

        Raises:
            ValueError: when another rounding is asked for.
        """
        if rounding is not None:
            raise ValueError("stochastic_binary: must be given no rounding, for its states are random; leave it out")
        each = self.sample_losses(self._states[:, None].expand(-1, len(self.inputs), -1))  # (2^dim, B)
        return (self._distribution(parameters) * each.T).sum(1).mean()

    def mean_output(self) -> Tensor:
        """Expected output for each input, shape (B,)."""
        return self._distribution({}) @ (self._states @ self._weights["readout"])

    def true_gradient(self) -> Parameters:
        return self.gradient()

    def _distribution(self, parameters: Parameters) -> Tensor:
        """Probability of each state of the last layer, shape (B, 2^dim)."""
        reached = self._transitions(parameters, 0, self.inputs)
        for layer in range(1, len(self.layers)):
            reached = reached @ self._transitions(parameters, layer, self._states)
        return reached

    def _transitions(self, parameters: Parameters, layer: int, below: Tensor) -> Tensor:
        """Probability of each state of a layer from each row of states below, shape (rows, 2^dim)."""
        logits = self.logits(parameters, layer, below)
        return F.logsigmoid(logits.unsqueeze(1) * self._states).sum(-1).exp()
