"""Rosenbrock: the error of a central difference, where it makes a descent end, and a descent that converges."""

import pytest
import torch

from lowbit.estimators.cdg import CDG
from lowbit.problems._base import stream
from lowbit.problems._descent import Schedule, descend
from lowbit.problems.rosenbrock import Rosenbrock


def expected_error(x, epsilon):
    odd = torch.arange(len(x)) % 2 == 0  # coordinates are numbered from 1
    return torch.where(odd, 400 * epsilon**2 * x, 0.0)


@pytest.mark.parametrize("method", ["loop", "stacked", "incremental"])
@pytest.mark.parametrize("epsilon", [1.0, 0.5, 0.125])
def test_error_at_integers_is_exact_to_the_last_bit(method, epsilon):
    # At integers, moved by a power of two, every term is a sum of few powers of two: float64 rounds nothing.
    objective = Rosenbrock().objective(Rosenbrock().start(0))
    estimate = CDG(epsilon=epsilon, method=method).estimate(objective, torch.Generator())
    error = estimate.direction["x"] - objective.true_gradient()["x"]
    assert torch.equal(error, expected_error(objective.parameters["x"], epsilon))
    assert error.any()
    assert estimate.forward_evaluations == 200


@pytest.mark.parametrize("method", ["stacked", "incremental"])
@pytest.mark.parametrize("epsilon", [1.0, 0.3, 0.1, 1e-2])
def test_error_anywhere_is_400_epsilon_squared_x(method, epsilon):
    x = 2 * torch.randn(100, generator=stream(1), dtype=torch.float64)
    objective = Rosenbrock().objective({"x": x})
    gradient = objective.true_gradient()["x"]
    estimate = CDG(epsilon=epsilon, method=method).direction(objective, torch.Generator())[0]["x"]
    # 1e-9 of the gradient: a difference of losses near 1e5, rounded at 1e-16 of them, is divided by 2 epsilon.
    difference = estimate - gradient - expected_error(x, epsilon)
    assert difference.abs().max() < 1e-9 * gradient.norm()


def biased(epsilon):
    first = 1 / (1 + 200 * epsilon**2)
    return torch.tensor([first, first**2], dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [0.1, 1e-2])
def test_the_estimate_vanishes_at_the_biased_point_and_not_at_the_minimum(epsilon):
    at_bias, at_minimum = (
        CDG(epsilon=epsilon).direction(Rosenbrock(pairs=1).objective({"x": x}), torch.Generator())[0]["x"]
        for x in (biased(epsilon), torch.ones(2, dtype=torch.float64))
    )
    assert at_bias.abs().max() < 1e-11  # rounding of losses near 1 over 2 epsilon
    assert at_minimum.tolist() == pytest.approx([400 * epsilon**2, 0], abs=1e-11)


def test_a_descent_of_fixed_width_ends_at_the_biased_point():
    start = Rosenbrock(pairs=1).objective({"x": torch.ones(2, dtype=torch.float64)})
    schedule = Schedule(updates=6000, lr=0.01, epsilon=1e-2, decay_from=1000, decay_every=1000, decays_epsilon=False)
    _, end = descend(start, lambda epsilon: CDG(epsilon=epsilon), schedule, torch.Generator())
    # Along the valley the distance, 0.043 at the start, falls by exp(-1/1250) an update: 3.6e-4 is left of it.
    assert (end["x"] - biased(1e-2)).norm() < 5e-4
    assert (end["x"] - 1).norm() > 0.04


def test_a_descent_whose_width_decays_converges():
    # The loss falls by exp(-1/625) an update along the valley: from 0.4 to 1e-10 takes 14,000 of them.
    start = Rosenbrock(pairs=2).objective({"x": torch.tensor([2.0, 1.0, 0.0, -2.0], dtype=torch.float64)})
    schedule = Schedule(updates=16_000, lr=0.1, epsilon=1e-2, decay_from=2000, decay_every=2000)
    log, end = descend(start, lambda epsilon: CDG(epsilon=epsilon), schedule, torch.Generator(), log_every=1000)
    losses = dict(log)
    assert losses[0] == 1302
    assert losses[2000] > 0.1  # the limit cycle of steps of one length
    assert losses[16_000] < 1e-10
    assert (end["x"] - 1).abs().max() < 1e-4
