"""Perturbed straight-through steps: never worse than the unperturbed one, and better with more samples."""

import pytest
import torch
from small_objectives import loss_after, perceptron, seeded

from lowbit.estimators._base import norm
from lowbit.estimators.autograd import Autograd
from lowbit.estimators.perturbed_ste import PerturbedSTE

RATES = (1e-3, 1e-2, 0.1, 0.3)


def found(seed, **settings):
    objective = perceptron(names=("hidden1", "hidden2"), seed=seed)
    direction, _ = PerturbedSTE(rates=RATES, **settings).direction(objective, seeded(7))
    return objective, direction


@pytest.mark.parametrize("seed", range(5))
def test_it_is_never_worse_than_the_straight_through_step(seed):
    objective, direction = found(seed, samples=8)
    gradient, _ = Autograd().direction(objective, seeded(0))
    length = norm(gradient)
    straight = [loss_after(objective, {n: r * g / length for n, g in gradient.items()}) for r in RATES]
    assert loss_after(objective, direction) <= min(straight) + 1e-12
    alone = found(seed, samples=0)[1]
    assert loss_after(objective, alone) == pytest.approx(min(straight), abs=1e-12)


def test_more_samples_contain_fewer():
    losses = []
    for samples in (0, 1, 2, 3, 5, 9, 40):
        objective, direction = found(0, samples=samples)
        losses.append(loss_after(objective, direction))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_the_step_has_the_length_of_a_rate_and_an_angle_of_the_perturbation():
    objective, direction = found(0, samples=40, rho=0.5)
    assert min(abs(float(norm(direction)) - r) for r in RATES) < 1e-12
    gradient, _ = Autograd().direction(objective, seeded(0))
    cosine = sum((direction[n] * g).sum() for n, g in gradient.items()) / norm(gradient) / norm(direction)
    assert cosine == pytest.approx(1 / (1 + 0.5**2) ** 0.5, abs=0.1)


def test_without_a_gradient_only_perturbations_are_tried():
    objective = perceptron()
    objective.gradient = lambda: {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
    direction, evaluations = PerturbedSTE(rates=RATES, samples=5).direction(objective, seeded(0))
    assert min(abs(float(norm(direction)) - r) for r in RATES) < 1e-12
    assert evaluations == 1 + 6 * 4
