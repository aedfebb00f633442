"""Rosenbrock's valley in uncoupled pairs: a smooth function on which the error of a central difference is known.

    f(x) = sum_i 100 (x_(2i-1)^2 - x_(2i))^2 + (x_(2i-1) - 1)^2          i = 1 .. pairs, coordinates numbered from 1

A central difference of half-width epsilon is off by exactly 400 epsilon^2 x_j at odd coordinates and by 0 at even
ones, so a descent along it ends at x_(2i-1) = 1 / (1 + 200 epsilon^2), x_(2i) = x_(2i-1)^2 instead of at 1.

**Reference**: H. H. Rosenbrock, An Automatic Method for Finding the Greatest or Least Value of a Function, 1960, The
Computer Journal 3.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters, Rounding
from lowbit.problems._base import Problem, stream
from lowbit.surrogates._base import Surrogate
from lowbit.variant import Count, variant


@variant
class Rosenbrock(Problem):
    """Rosenbrock's function from a random integer point, in float64.

    Args:
        pairs: uncoupled terms; coordinates are twice as many.
        reach: coordinates start at random integers from -reach to reach.

    Example:
        >>> problem = Rosenbrock(pairs=1)
        >>> objective = problem.objective({"x": torch.tensor([1.0, 2.0], dtype=torch.float64)})
        >>> objective.loss(objective.parameters).item(), objective.true_gradient()["x"].tolist()
        (100.0, [-400.0, 200.0])
    """

    pairs: Count = 50
    reach: Count = 10

    def start(self, seed: int) -> Parameters:
        """`x`, shape (2 pairs,)."""
        drawn = torch.randint(-self.reach, self.reach + 1, (2 * self.pairs,), generator=stream(seed, "initial"))
        return {"x": drawn.double()}

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate | None = None,
        generator: torch.Generator | None = None,
        batch_size: int = 1,
        names: tuple[str, ...] | None = None,
    ) -> Objective:
        """The function at a point; it has neither roundings nor a batch."""
        return _RosenbrockObjective({"x": tensors["x"]})


class _RosenbrockObjective(Objective):
    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self.elements = self.parameters["x"].numel()

    def at(self, parameters: Parameters) -> "_RosenbrockObjective":
        return type(self)(parameters)

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        return _terms(parameters["x"].unflatten(-1, (-1, 2))).sum(-1)

    def losses(self, stacked: Parameters) -> Tensor:
        return self.loss(stacked)

    def coordinate_losses(self, name: str, indices: Tensor, shifts: Sequence[float]) -> Tensor:
        """A coordinate changes the term of its pair alone; in numpy, which takes small arrays faster than torch."""
        d = np.asarray(shifts)
        first, second = self.parameters[name].numpy().reshape(-1, 2, 1).swapaxes(0, 1)  # (pairs, 1) each
        across = first * first - second
        bent = np.empty((len(first), 2, len(d)))  # change of `across` by a move of either
        bent[:, 0], bent[:, 1] = d * (2 * first + d), -d
        change = 100 * bent * (2 * across[:, None] + bent)
        change[:, 0] += d * (2 * (first - 1) + d)
        total = (100 * across * across + (first - 1) ** 2).sum()
        return torch.from_numpy(total + change.reshape(-1, len(d))[indices.numpy()])

    def true_gradient(self) -> Parameters:
        first, second = self.parameters["x"].view(-1, 2).unbind(-1)
        across = 200 * (first.square() - second)
        return {"x": torch.stack([2 * first * across + 2 * (first - 1), -across], -1).flatten()}


def _terms(pairs: Tensor) -> Tensor:
    """The summand of each pair, shape (..., 2) -> (...)."""
    first, second = pairs.unbind(-1)
    return 100 * (first.square() - second).square() + (first - 1).square()
