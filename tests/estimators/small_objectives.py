"""Objectives whose losses are known, and a small perceptron."""

import torch
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters, Rounding
from lowbit.problems._base import stream
from lowbit.problems._mlp import MlpObjective
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.window import Window


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perceptron(
    dim: int = 8,
    samples: int = 64,
    names: tuple[str, ...] = ("hidden1",),
    activation: str = "binary",
    dtype: str = "float64",
    seed: int = 0,
) -> MlpObjective:
    """A student perceptron."""
    problem = TeacherStudent(dim=dim, activation=activation, dtype=dtype)
    return problem.objective(problem.start(seed), Window(), stream(seed, "batch"), samples, names)


class LinearLoss(Objective):
    """Sum of gradient * theta in float64."""

    elements = 1

    def __init__(self, gradient: Parameters):
        super().__init__({n: torch.linspace(-1, 1, g.numel()).double().view_as(g) for n, g in gradient.items()})
        self.true = gradient

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        return torch.stack([(self.true[n] * t).sum() for n, t in parameters.items()]).sum()


class Stairs(Objective):
    """Two coordinates at 0; the loss falls by each drop from the place where it is passed on."""

    elements = 1

    def __init__(self, drops: list[list[tuple[float, float]]], at: Parameters | None = None):
        super().__init__(at or {"w": torch.zeros(len(drops), dtype=torch.float64)})
        self._drops = drops

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        total = 10.0 + 0.0 * parameters["w"].sum()
        for w, drops in zip(parameters["w"], self._drops, strict=True):
            for place, drop in drops:
                passed = w >= place - 1e-9 if place > 0 else w <= place + 1e-9
                total = total - torch.where(passed, drop, 0.0)
        return total

    def at(self, parameters: Parameters) -> "Stairs":
        return Stairs(self._drops, parameters)


def loss_after(objective: Objective, direction: Parameters) -> float:
    """The loss at theta minus a direction."""
    return float(objective.loss({n: t - direction[n] for n, t in objective.parameters.items()}))
