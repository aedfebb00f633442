"""Estimators that are unbiased, against exact gradients: Hotelling's T^2 test of the mean over many estimates.

The test is the z-test for all coordinates at once. Under the hypothesis each p-value is uniform, so that a fresh set
of seeds raises a false alarm with probability `FALSE_ALARM` per case; the seeds here are fixed. That the test would
notice an error of 10% is shown for each case by scaling its estimates.
"""

import pytest
import torch
from scipy import stats

from lowbit import catalog
from lowbit.estimators.enumeration import Enumeration
from lowbit.estimators.nes import NES
from lowbit.problems._base import stream
from lowbit.problems.quadratic import Quadratic
from lowbit.problems.stochastic_binary import StochasticBinary

FALSE_ALARM = 1e-3
REPEATS = 400
SAMPLING = [
    {"name": "reinforce"},
    {"name": "reinforce", "baseline": "leave_one_out"},
    {"name": "arm"},
    {"name": "disarm"},
]
each = pytest.mark.parametrize("settings", SAMPLING, ids=lambda s: "-".join(map(str, s.values())))


def flat(direction):
    return torch.cat([t.flatten() for t in direction.values()]).double()


def draws(estimator, objective, repeats=REPEATS):
    """Independent estimates, shape (repeats, coordinates)."""
    return torch.stack([flat(estimator.direction(objective, stream(11, r))[0]) for r in range(repeats)])


def p_value(estimates, truth):
    """Of the hypothesis that the estimates have this mean: T^2 = M d' S^-1 d has a scaled F distribution."""
    count, size = estimates.shape
    off = estimates.mean(0) - truth
    squared = count * off @ torch.linalg.solve(estimates.T.cov(), off)
    return stats.f.sf(float(squared) * (count - size) / (size * (count - 1)), size, count - size)


def network(batch_size=4):
    problem = StochasticBinary()
    return problem.objective(problem.start(0), None, stream(0, "batch"), batch_size)


@each
def test_estimators_of_stochastic_networks_have_the_exact_mean(settings):
    objective = network()
    truth = flat(Enumeration().direction(objective, torch.Generator())[0])
    estimates = draws(catalog.build("estimators", {**settings, "samples": 50}), objective)
    assert p_value(estimates, truth) > FALSE_ALARM
    assert p_value(1.1 * estimates, truth) < FALSE_ALARM


@each
def test_a_layer_alone_has_the_exact_mean(settings):
    problem = StochasticBinary()
    objective = problem.objective(problem.start(0), None, stream(0, "batch"), 4, ("layer2",))
    truth = flat(objective.true_gradient())
    estimator = catalog.build("estimators", {**settings, "samples": 50})
    assert p_value(draws(estimator, objective, 200), truth) > FALSE_ALARM


@pytest.mark.parametrize("form", ["antithetic", "baseline", "one_sided"])
def test_random_directions_have_the_mean_of_the_smoothed_loss(form):
    # Smoothing a quadratic by a Gaussian adds a constant: the smoothed gradient is the gradient.
    problem = Quadratic(dim=20)
    objective = problem.objective(problem.start(0))
    truth = flat(objective.true_gradient())
    estimates = draws(NES(sigma=1.0, samples=100, form=form), objective)
    assert p_value(estimates, truth) > FALSE_ALARM
    assert p_value(1.1 * estimates, truth) < FALSE_ALARM


@each
def test_the_error_falls_as_the_root_of_the_samples(settings):
    objective = network()
    truth = flat(objective.true_gradient())
    errors = []
    for samples in (10, 160, 2560):
        estimates = draws(catalog.build("estimators", {**settings, "samples": samples}), objective, 60)
        errors.append(float((estimates - truth).square().sum(1).mean().sqrt()))
    # 60 squared errors, each of a few dozen independent parts, have a mean known to about 4%: 2% of the RMSE, and
    # the ratio of two of them, 4 where n grows 16 times, to 3%. Four times that is allowed.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.12)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.12)


def test_pairs_are_more_accurate_than_scores_and_disarm_than_arm():
    objective = network()
    truth = flat(objective.true_gradient())
    error = {}
    for name in ("reinforce", "arm", "disarm"):
        estimates = draws(catalog.build("estimators", {"name": name, "samples": 50}), objective, 60)
        error[name] = float((estimates - truth).square().sum(1).mean())
    assert error["disarm"] < error["arm"] < error["reinforce"]
