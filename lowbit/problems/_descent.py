"""Descent along an estimator's direction in steps of a given length."""

from collections.abc import Callable, Iterator

import torch

from lowbit.estimators._base import Estimator, Objective, Parameters, norm
from lowbit.variant import Count, NonNegativeInt, Positive, variant

_TINY = 1e-300  # a direction of zeros stays one when it is normalised


@variant
class Schedule:
    """How long each step is, and how far the estimator looks.

    Args:
        updates: steps in all.
        lr: length of the first steps.
        epsilon: width of the first estimates.
        decay_from: update before which both are multiplied by `factor` for the first time.
        decay_every: updates from one decay to the next.
        factor: of a decay.
        decays_epsilon: whether the width decays with the length, or stays.
    """

    updates: Count
    lr: Positive = 0.1
    epsilon: Positive = 1e-2
    decay_from: NonNegativeInt = 30_000
    decay_every: Count = 10_000
    factor: Positive = 0.1
    decays_epsilon: bool = True

    def phases(self) -> Iterator[tuple[int, int, float, float]]:
        """(first update, update after the last, lr, epsilon) of each stretch between decays."""
        start, decays = 0, 0
        while start < self.updates:
            end = min(self.updates, self.decay_from + decays * self.decay_every)
            scale = self.factor**decays
            if end > start:
                yield start, end, self.lr * scale, self.epsilon * (scale if self.decays_epsilon else 1.0)
            start, decays = max(start, end), decays + 1


def descend(
    objective: Objective,
    estimator: Callable[[float], Estimator],
    schedule: Schedule,
    generator: torch.Generator,
    log_every: int = 100,
) -> tuple[list[tuple[int, float]], Parameters]:
    """Follow an estimator's normalised direction: theta <- theta - lr g / |g|, norm over all tensors.

    Args:
        objective: at the start; must offer `at`.
        estimator: epsilon -> the estimator of that width.
        schedule: lengths and widths.
        generator: of the estimates.
        log_every: updates between logged losses.

    Returns:
        (update, loss before it), with the end as the last entry; and the point reached.
    """
    log = []
    for start, end, lr, epsilon in schedule.phases():
        current = estimator(epsilon)
        for update in range(start, end):
            if update % log_every == 0:
                log.append((update, float(objective.loss(objective.parameters))))
            direction, _ = current.direction(objective, generator)
            step = lr / max(float(norm(direction)), _TINY)
            objective = objective.at({n: t - step * direction[n] for n, t in objective.parameters.items()})
    log.append((schedule.updates, float(objective.loss(objective.parameters))))
    return log, objective.parameters
