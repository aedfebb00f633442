"""Discrete gradient (DG): the coordinates whose single moves lower the loss most, as many as a budget allows.

    D_d(delta) = L(theta) - L(theta + delta e_d),  |delta| = stride, 2 stride, .. <= epsilon, both signs
    first:  delta_d = the shortest delta with D_d(delta) > 0 (of two signs the better)
    best:   delta_d = the delta of highest score
    score = D / |delta|^2 (or D / |delta|, or D);  by falling score, coordinates move while sum delta_d^2 <= epsilon^2

Every delta of the grid is tried, for the loss of a rounded network is not monotone in it. Moves are judged one by one:
together they may do less, or harm. `first` notes the shortest move that helps, not the one that helps most, so its step
is no upper bound of what the ball has to offer.

**Differs from the paper**: the score of the study's notes is not public; per squared length is the measure for a budget
of squares.

**Reference**: none known.
"""

from typing import Literal

import torch

from lowbit.estimators._base import Estimator, Objective, Parameters
from lowbit.estimators._coordinate_search import CoordinateSearch
from lowbit.variant import Positive, variant


@variant
class DG(Estimator):
    """Greedy step over single coordinates in a ball.

    Args:
        epsilon: greatest Euclidean length of the step, and of any move.
        stride: of the grid of moves.
        mode: the shortest move that lowers the loss, or the one of highest score.
        score: what a move is worth.
        method: how losses of moved coordinates are computed, as in CDG.
    """

    epsilon: Positive = 0.1
    stride: Positive = 1e-3
    mode: Literal["first", "best"] = "first"
    score: Literal["decrease_per_squared_length", "decrease_per_length", "decrease"] = "decrease_per_squared_length"
    method: Literal["loop", "stacked", "incremental"] = "incremental"

    is_step = True

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Minus the step; one evaluation at the point and one for each entry and move of the grid."""
        search = CoordinateSearch(
            radius=self.epsilon, stride=self.stride, mode=self.mode, score=self.score, method=self.method
        )  # fmt: skip
        step, evaluations = search.step(objective)
        return {n: -t for n, t in step.items()}, evaluations
