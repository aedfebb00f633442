"""Several steps of an optimizer on the straight-through gradient, inside a budget around the start.

    theta_0' = theta_0 + nu,  nu uniform in the ball of radius noise_fraction * epsilon
    theta_(t+1) = P(theta_t - update(g(theta_t)))
    l2:  P scales theta - theta_0 to a length of at most epsilon;  box: P clips its entries to [-epsilon, epsilon]

The updates are those of torch.optim: SGD, SGD with momentum, and Adam, without weight decay. P does not touch moments.

**Differs from the paper**: whether the notes clip the length or the entries is not said. A single step there has a
length of at most epsilon, so that the ball makes the comparison fair; the box holds steps longer by up to sqrt(D).

**Reference**: for Adam D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, 2014, arXiv 1412.6980.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters, gaussian, norm
from lowbit.variant import Count, OpenFraction, Positive, variant


@variant
class MultiStepSTE(Estimator):
    """Optimizer steps on the straight-through gradient inside a ball or box.

    Args:
        steps: of the optimizer.
        optimizer: sgd, sgd_momentum or adam.
        lr: learning rate, constant.
        momentum: of sgd_momentum; no dampening, not Nesterov's.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        epsilon: the budget: radius of the ball, or half the side of the box.
        budget: shape of the budget.
        noise_fraction: radius of the noise at the start as a fraction of epsilon; 0 starts at the point itself.
        keep: the visited point of lowest loss, or the last one; the start is not among them.
    """

    steps: Count = 10
    optimizer: Literal["sgd", "sgd_momentum", "adam"] = "sgd"
    lr: Positive = 0.05
    momentum: OpenFraction = 0.9
    beta1: OpenFraction = 0.9
    beta2: OpenFraction = 0.999
    epsilon: Positive = 0.1
    budget: Literal["l2", "box"] = "l2"
    noise_fraction: OpenFraction = 0.0
    keep: Literal["best", "last"] = "best"

    is_step = True

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Minus the step; one evaluation for each gradient, and with `best` one for each visited point."""
        origin = objective.parameters
        moved, visited, moments = self._start(objective, generator), [], {}
        for number in range(1, self.steps + 1):
            gradient = objective.gradient(at={n: t + moved[n] for n, t in origin.items()})
            updates = {n: self._update(g, moments.setdefault(n, []), number) for n, g in gradient.items()}
            moved = self._project({n: t - updates[n] for n, t in moved.items()})
            visited.append(moved)
        if self.keep == "last":
            return {n: -t for n, t in moved.items()}, self.steps
        best = visited[int(_losses(objective, visited).argmin())]
        return {n: -t for n, t in best.items()}, 2 * self.steps

    def _start(self, objective: Objective, generator: torch.Generator) -> Parameters:
        """Uniform in a ball."""
        if self.noise_fraction == 0:
            return {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
        noise = {n: e[0] for n, e in gaussian(objective.parameters, 1, generator).items()}
        drawn = float(torch.rand((), generator=generator, dtype=torch.float64, device=generator.device))
        length = self.noise_fraction * self.epsilon * drawn ** (1 / objective.size) / float(norm(noise))
        return {n: length * e for n, e in noise.items()}

    # Written out, because an optimizer of torch.optim wants leaf tensors that it changes in place, and the first one
    # built imports torch._dynamo, which takes longer than the search.
    def _update(self, gradient: Tensor, moments: list[Tensor], number: int) -> Tensor:
        """What is subtracted from a tensor; `moments` is the optimizer's memory of it."""
        if self.optimizer == "sgd":
            return self.lr * gradient
        if self.optimizer == "sgd_momentum":
            moments[:] = [self.momentum * moments[0] + gradient] if moments else [gradient]
            return self.lr * moments[0]
        first, second = moments or (torch.zeros_like(gradient), torch.zeros_like(gradient))
        first = self.beta1 * first + (1 - self.beta1) * gradient
        second = self.beta2 * second + (1 - self.beta2) * gradient.square()
        moments[:] = [first, second]
        deviation = second.sqrt() / math.sqrt(1 - self.beta2**number) + 1e-8
        return self.lr / (1 - self.beta1**number) * first / deviation

    def _project(self, moved: Parameters) -> Parameters:
        if self.budget == "box":
            return {n: t.clamp(-self.epsilon, self.epsilon) for n, t in moved.items()}
        length = float(norm(moved))
        return {n: t * (self.epsilon / length) for n, t in moved.items()} if length > self.epsilon else moved


def _losses(objective: Objective, visited: list[Parameters]) -> Tensor:
    """Losses at the visited points."""
    losses = []
    for start in range(0, len(visited), objective.stack_size):
        part = visited[start : start + objective.stack_size]
        losses.append(
            objective.losses({n: t + torch.stack([m[n] for m in part]) for n, t in objective.parameters.items()})
        )
    return torch.cat(losses)
