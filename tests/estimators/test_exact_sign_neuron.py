"""One sign neuron: straight-through is at half the angle, and a narrow window trades that bias for samples."""

import math

import pytest
import torch
from scipy import integrate, stats

from lowbit.estimators.autograd import Autograd
from lowbit.estimators.cdg import CDG
from lowbit.problems._base import stream
from lowbit.problems.sign_neuron import SignNeuron
from lowbit.surrogates.identity import Identity
from lowbit.surrogates.window import Window

BATCH = 400_000
WIDTHS = (2.0, 1.0, 0.5, 0.2, 0.1)
ANGLE, LENGTH = 1.71, 3.34  # at which the pass rate falls from 45% to 2.4% over the widths


def batch(surrogate, angle=ANGLE, length=LENGTH):
    problem = SignNeuron(angle=angle, length=length)
    return problem.objective(problem.start(0), surrogate, stream(0, "batch"), BATCH)


def cosine_to_truth(objective, estimator):
    estimate = estimator.direction(objective, torch.Generator())[0]["weight"]
    return float(torch.nn.functional.cosine_similarity(estimate, objective.true_gradient()["weight"]))


@pytest.mark.parametrize("angle", [0.3, 1.0, ANGLE, 2.8])
def test_straight_through_is_at_half_the_angle(angle):
    # Sampling turns the estimate by about sqrt(dim / BATCH) = 0.0045 over its own relative length, 2 sin(angle / 2)
    # times the root of the disagreeing share: 0.01 covers four standard deviations at every angle.
    assert cosine_to_truth(batch(Identity(), angle), Autograd()) == pytest.approx(math.cos(angle / 2), abs=0.01)


def test_mean_of_straight_through():
    problem = SignNeuron(angle=ANGLE, length=LENGTH)
    tensors = problem.start(0)
    objective = problem.objective(tensors, Identity(), stream(0, "batch"), BATCH)
    expected = 2 * math.sqrt(2 / math.pi) * (tensors["student.weight"] / LENGTH - tensors["teacher.weight"])
    # One sample's entry has a variance of at most E (4 x)^2 = 16: 5 standard errors.
    torch.testing.assert_close(objective.gradient()["weight"], expected, rtol=0, atol=5 * 4 / math.sqrt(BATCH))


def windowed_cosine(width, angle=ANGLE, length=LENGTH):
    """Of the population: components of E (s - s*) x 1{|w.x| <= width} along w and towards v, by quadrature over w.x."""
    phi, cot, edge = stats.norm.pdf, 1 / math.tan(angle), width / length
    along = integrate.quad(lambda u: (abs(u) - u * (2 * stats.norm.cdf(u * cot) - 1)) * phi(u), -edge, edge, points=[0])
    across = integrate.quad(lambda u: 2 * phi(u * cot) * phi(u), -edge, edge)
    return across[0] / math.hypot(along[0], across[0])


def test_a_window_that_closes_turns_straight_through_towards_the_gradient():
    measured = [cosine_to_truth(batch(Window(width=width)), Autograd()) for width in WIDTHS]
    # At 2.4% of 400,000 samples the sine of the angle from sampling is about sqrt(8 / 10,000) = 0.03: 1 - cosine 4e-4.
    assert measured == pytest.approx([windowed_cosine(width) for width in WIDTHS], abs=2e-3)
    assert measured[:4] == pytest.approx([0.934, 0.982, 0.996, 0.999], abs=3e-3)
    assert windowed_cosine(1e-3) == pytest.approx(1, abs=1e-6)
    assert windowed_cosine(40.0) == pytest.approx(math.cos(ANGLE / 2), abs=1e-6)


def test_the_share_of_samples_that_pass_falls_with_the_window():
    objective = batch(Identity())
    z = objective.inputs @ objective.parameters["weight"].T
    rates = [float(Window(width=width).surrogate_gradient(z).mean()) for width in WIDTHS]
    expected = [math.erf(width / LENGTH / math.sqrt(2)) for width in WIDTHS]
    assert rates == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(BATCH))  # 5 standard errors of a share
    assert (expected[0], expected[-1]) == pytest.approx((0.45, 0.024), abs=1e-3)


def test_central_differences_of_a_large_batch_are_near_the_gradient():
    # BATCH * epsilon = 4e4, far above the 1000 from which noise is small, and 0.1 is short beside a length of 1.
    objective = batch(Identity(), length=1.0)
    assert cosine_to_truth(objective, CDG(epsilon=0.1)) > 0.98
    assert cosine_to_truth(objective, CDG(epsilon=0.1)) > cosine_to_truth(objective, Autograd()) + 0.1
