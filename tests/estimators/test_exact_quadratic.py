"""A quadratic: central differences have no error, and the cosine of random directions follows its formula."""

import math

import pytest
import torch

from lowbit.estimators.cdg import CDG
from lowbit.estimators.nes import NES
from lowbit.problems._base import stream
from lowbit.problems.quadratic import Quadratic


@pytest.mark.parametrize("method", ["loop", "stacked", "incremental"])
@pytest.mark.parametrize("epsilon", [10.0, 1.0, 0.1, 1e-3])
def test_central_differences_are_exact_at_every_width(method, epsilon):
    problem = Quadratic(dim=30)
    objective = problem.objective(problem.start(0))
    estimate = CDG(epsilon=epsilon, method=method).direction(objective, torch.Generator())[0]["x"]
    # A loss of up to 30 + 10^2 / 2 is rounded at 1e-14 and divided by 2 epsilon.
    torch.testing.assert_close(estimate, objective.true_gradient()["x"], rtol=0, atol=1e-13 / epsilon + 1e-13)


def mean_cosine(estimator, objective, repeats):
    truth, cosines = objective.true_gradient()["x"], []
    for repeat in range(repeats):
        estimate = estimator.direction(objective, stream(7, repeat))[0]["x"]
        cosines.append(float(torch.nn.functional.cosine_similarity(estimate, truth, dim=0)))
    return sum(cosines) / repeats


@pytest.mark.parametrize("sigma", [0.1, 10.0])
@pytest.mark.parametrize("samples", [100, 300, 3000])
def test_cosine_of_antithetic_pairs(samples, sigma):
    # Curvature cancels within a pair, so sigma does not matter. One cosine has a standard deviation near
    # 1 / sqrt(300) at most (0.03 at n = 300); the mean of 8 is within 2.5% of the formula, half of the 5% allowed.
    problem = Quadratic(dim=300)
    objective = problem.objective(problem.start(0))
    expected = math.sqrt(samples / (samples + 300 + 1))
    assert mean_cosine(NES(sigma=sigma, samples=samples), objective, 8) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("samples", "repeats"), [(300, 40), (1500, 12)])
def test_cosine_of_one_sided_samples_carries_the_loss(samples, repeats):
    # So near 0 that curvature (sigma^2 trace(A) / 2 against f) is negligible and the loss is linear.
    problem, sigma = Quadratic(dim=300), 1e-6
    tensors = problem.start(0)
    tensors |= {"x": 3e-6 * tensors["linear"] / tensors["linear"].norm()}
    objective = problem.objective(tensors)
    loss, slope = float(objective.loss(objective.parameters)), float(objective.true_gradient()["x"].norm())
    assert loss / (sigma * slope) == pytest.approx(3.0, rel=0.01)
    noise = (300 + 1) / samples + 300 * (loss / (sigma * slope)) ** 2 / samples
    one_sided = mean_cosine(NES(sigma=sigma, samples=samples, form="one_sided"), objective, repeats)
    # A cosine varies by 1 / sqrt(300) or less: 4 standard errors of the mean, 0.037 of 0.30 and 0.067 of 0.58.
    assert one_sided == pytest.approx(1 / math.sqrt(1 + noise), abs=4 / math.sqrt(300 * repeats))
    # Subtracting the loss takes the last term away.
    baseline = mean_cosine(NES(sigma=sigma, samples=samples, form="baseline"), objective, 8)
    assert baseline == pytest.approx(math.sqrt(samples / (samples + 300 + 1)), rel=0.05)


def estimates(settings, objective):
    estimators = [NES(**s) for s in settings]
    return [e.direction["x"] for e in NES.estimate_all(estimators, objective, stream(3))]


@pytest.mark.parametrize("form", ["antithetic", "baseline", "one_sided"])
def test_fewer_samples_are_a_prefix_of_more(form):
    problem = Quadratic(dim=40)
    objective = problem.objective(problem.start(0))
    few, many = ({"samples": n, "sigma": 0.1, "form": form} for n in (50, 170))
    assert torch.equal(estimates([few, many], objective)[0], estimates([few], objective)[0])
    assert torch.equal(estimates([many, few], objective)[1], estimates([few], objective)[0])
    # The rest of the series is the same too: 50 draws of 40 numbers are whole blocks of 16 of the generator.
    alone = estimates([many], objective)[0]
    torch.testing.assert_close(estimates([few, many], objective)[1], alone, rtol=1e-12, atol=1e-12)


def test_sigmas_share_their_noise():
    problem = Quadratic(dim=40)
    objective = problem.objective(problem.start(0))
    narrow, wide = estimates([{"sigma": 0.1, "samples": 20}, {"sigma": 1.0, "samples": 20}], objective)
    # The pair difference of a quadratic is 2 sigma g.e: with the same e, the estimates differ by rounding alone.
    torch.testing.assert_close(narrow, wide, rtol=1e-10, atol=1e-10)
    assert torch.equal(narrow, estimates([{"sigma": 0.1, "samples": 20}], objective)[0])
