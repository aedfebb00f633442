"""Several optimizer steps: PyTorch's updates, budgets, noise at the start, and which point is kept."""

import pytest
import torch
from small_objectives import LinearLoss, loss_after, perceptron, seeded

from lowbit.estimators._base import norm
from lowbit.estimators.multi_step_ste import MultiStepSTE

OPTIMIZERS = {
    "sgd": lambda tensors: torch.optim.SGD(tensors, lr=0.05),
    "sgd_momentum": lambda tensors: torch.optim.SGD(tensors, lr=0.05, momentum=0.9),
    "adam": lambda tensors: torch.optim.Adam(tensors, lr=0.05, betas=(0.9, 0.999)),
}
NAMES = ("hidden1", "hidden2")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_those_of_torch(optimizer):
    objective = perceptron(names=NAMES)
    leaves = {n: t.clone().requires_grad_() for n, t in objective.parameters.items()}
    reference = OPTIMIZERS[optimizer](list(leaves.values()))
    for _ in range(6):
        reference.zero_grad()
        objective.loss(leaves).backward()
        reference.step()
    estimator = MultiStepSTE(optimizer=optimizer, steps=6, epsilon=1e3, keep="last")
    direction, _ = estimator.direction(objective, seeded(0))
    reached = {n: t - direction[n] for n, t in objective.parameters.items()}
    torch.testing.assert_close(reached, {n: t.detach() for n, t in leaves.items()}, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise_fraction", [0.0, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_budgets_are_kept(optimizer, noise_fraction, dtype, keep):
    objective, slack = perceptron(names=NAMES, dtype=dtype), 1 + 8 * torch.finfo(getattr(torch, dtype)).eps
    shared = {"optimizer": optimizer, "lr": 10.0, "epsilon": 0.1, "noise_fraction": noise_fraction, "keep": keep}
    ball, _ = MultiStepSTE(budget="l2", **shared).direction(objective, seeded(0))
    assert 0.09 < norm(ball) <= 0.1 * slack
    box, _ = MultiStepSTE(budget="box", **shared).direction(objective, seeded(0))
    assert max(float(t.abs().max()) for t in box.values()) <= 0.1 * slack
    assert norm(box) > 0.1  # else the box was no other budget than the ball


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_best_visited_point_is_kept(seed, optimizer):
    objective = perceptron(names=NAMES, seed=seed)
    shared = {"optimizer": optimizer, "lr": 0.5}
    best, evaluations = MultiStepSTE(steps=7, **shared).direction(objective, seeded(0))
    visited = []
    for steps in range(1, 8):
        last, counted = MultiStepSTE(steps=steps, keep="last", **shared).direction(objective, seeded(0))
        visited.append(loss_after(objective, last))
        assert counted == steps
    assert loss_after(objective, best) == pytest.approx(min(visited), abs=1e-12)
    assert evaluations == 14


def test_noise_is_uniform_in_its_ball():
    """|nu|^D / r^D is uniform on (0, 1): the mean of 500 within 5 standard errors, a false alarm in 2e6 seeds."""
    objective = LinearLoss({"a": torch.zeros(2, 2).double(), "b": torch.zeros(1).double()})
    estimator, draws = MultiStepSTE(steps=1, noise_fraction=0.5, epsilon=0.2), seeded(0)
    starts = [estimator.direction(objective, draws)[0] for _ in range(500)]
    shares = torch.stack([norm(s) / 0.1 for s in starts]) ** 5
    assert shares.max() <= 1 + 1e-12
    assert abs(shares.mean() - 0.5) < 5 * (1 / 12 / 500) ** 0.5
    mean = torch.stack([torch.cat([t.flatten() for t in s.values()]) for s in starts]).mean(0)
    assert mean.abs().max() < 0.02


def test_the_ball_scales_and_the_box_clips():
    gradient = {"a": torch.tensor([3.0, 4.0, 0.0]).double()}
    ball, _ = MultiStepSTE(steps=1, lr=1.0).direction(LinearLoss(gradient), seeded(0))
    box, _ = MultiStepSTE(steps=1, lr=1.0, budget="box").direction(LinearLoss(gradient), seeded(0))
    torch.testing.assert_close(ball["a"].tolist(), [0.06, 0.08, 0.0])
    torch.testing.assert_close(box["a"].tolist(), [0.1, 0.1, 0.0])


@pytest.mark.parametrize("wrong", [1.0, -0.1])
def test_noise_as_wide_as_the_budget_is_refused(wrong):
    with pytest.raises(ValueError, match="noise_fraction"):
        MultiStepSTE(noise_fraction=wrong)
