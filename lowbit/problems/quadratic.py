"""A convex quadratic: central differences are exact on it, and random directions have a known cosine.

    f(x) = x^T A x / 2 + b^T x,  gradient A x + b

A has a random orthogonal eigenbasis and eigenvalues spaced evenly in the logarithm from 1 / condition to 1; b and the
start are standard normal.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters, Rounding
from lowbit.problems._base import Problem, stream
from lowbit.surrogates._base import Surrogate
from lowbit.variant import Count, variant


@variant
class Quadratic(Problem):
    """Random convex quadratic in float64.

    Args:
        dim: coordinates.
        condition: ratio of the largest eigenvalue of A to the smallest.
    """

    dim: Count = 300
    condition: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0

    def start(self, seed: int) -> Parameters:
        """`x` (dim,), `matrix` A (dim, dim) and `linear` b (dim,)."""
        draws = stream(seed, "initial")
        x, linear = torch.randn(2, self.dim, generator=draws, dtype=torch.float64)
        basis, _ = torch.linalg.qr(torch.randn(self.dim, self.dim, generator=draws, dtype=torch.float64))
        eigenvalues = self.condition ** torch.linspace(-1, 0, self.dim, dtype=torch.float64)
        matrix = (basis * eigenvalues) @ basis.T
        return {"x": x, "matrix": (matrix + matrix.T) / 2, "linear": linear}  # symmetric to the last bit

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate | None = None,
        generator: torch.Generator | None = None,
        batch_size: int = 1,
        names: tuple[str, ...] | None = None,
    ) -> Objective:
        """The function at a point; it has neither roundings nor a batch."""
        return _QuadraticObjective({"x": tensors["x"]}, tensors["matrix"], tensors["linear"])


class _QuadraticObjective(Objective):
    def __init__(self, parameters: Parameters, matrix: Tensor, linear: Tensor):
        super().__init__(parameters)
        self._matrix, self._linear = matrix, linear
        self.elements = linear.numel()

    def at(self, parameters: Parameters) -> "_QuadraticObjective":
        return type(self)(parameters, self._matrix, self._linear)

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        x = parameters["x"]
        return (x * (x @ self._matrix / 2 + self._linear)).sum(-1)

    def losses(self, stacked: Parameters) -> Tensor:
        return self.loss(stacked)

    def coordinate_losses(self, name: str, indices: Tensor, shifts: Sequence[float]) -> Tensor:
        """f(x + d e_i) = f(x) + d g_i + d^2 A_ii / 2."""
        d = torch.tensor(shifts, dtype=self._linear.dtype)
        slope, curvature = self.true_gradient()["x"][indices], self._matrix.diagonal()[indices]
        return self.loss(self.parameters) + d * slope[:, None] + d.square() / 2 * curvature[:, None]

    def true_gradient(self) -> Parameters:
        return {"x": self._matrix @ self.parameters["x"] + self._linear}
