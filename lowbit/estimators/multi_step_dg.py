"""Multi-step discrete gradient: the search of the discrete gradient repeated from the point it reached.

    theta_(t+1) = theta_t + s_t,  |s_t| <= epsilon / T,  t = 0 .. T - 1;  hence |theta_T - theta_0| <= epsilon

Every step tries all coordinates afresh, those that have moved from where they are. It ends early when no single move
lowers the loss. One step is the discrete gradient itself.

**Reference**: none known.
"""

from typing import Literal

import torch

from lowbit.estimators._base import Estimator, Objective, Parameters, norm
from lowbit.estimators._coordinate_search import CoordinateSearch
from lowbit.variant import Count, Positive, variant


@variant
class MultiStepDG(Estimator):
    """Repeated greedy steps over single coordinates in a ball.

    Args:
        steps: T, that share the budget equally.
        epsilon: greatest Euclidean length of all steps together.
        stride: of the grid of moves; above epsilon / steps no move is left.
        mode: the shortest move that lowers the loss, or the one of highest score.
        score: what a move is worth.
        method: how losses of moved coordinates are computed, as in CDG.
    """

    steps: Count = 10
    epsilon: Positive = 0.1
    stride: Positive = 1e-3
    mode: Literal["first", "best"] = "first"
    score: Literal["decrease_per_squared_length", "decrease_per_length", "decrease"] = "decrease_per_squared_length"
    method: Literal["loop", "stacked", "incremental"] = "incremental"

    is_step = True

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Minus the sum of the steps, and the evaluations of the steps that were searched."""
        search = CoordinateSearch(
            radius=self.epsilon / self.steps,
            stride=self.stride,
            mode=self.mode,
            score=self.score,
            method=self.method,
        )
        start, total = objective.parameters, 0
        for _ in range(self.steps):
            step, evaluations = search.step(objective)
            total += evaluations
            if not any(bool(t.any()) for t in step.values()):
                break
            objective = objective.at({n: t + step[n] for n, t in objective.parameters.items()})
        direction = {n: t - objective.parameters[n] for n, t in start.items()}
        # Adding in low precision may pass the radius by a rounding of theta.
        assert norm(direction) <= self.epsilon + 1e-5 * norm(start), "the steps left the ball"
        return direction, total
