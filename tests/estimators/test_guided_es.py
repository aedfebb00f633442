"""Guided evolution strategies: the mean on a linear loss, and the two ends of alpha."""

import math

import pytest
import torch
from small_objectives import LinearLoss, perceptron, seeded

from lowbit.estimators.guided_es import GuidedES
from lowbit.estimators.nes import NES


def flat(direction):
    return torch.cat([t.flatten() for t in direction.values()])


def linear(size=16):
    gradient = torch.sin(torch.arange(size, dtype=torch.float64))
    return LinearLoss({"a": gradient[:12].view(3, 4), "b": gradient[12:]})


class MisguidedLoss(LinearLoss):
    """A linear loss whose surrogate gradient is another direction."""

    def gradient(self, rounding=None, at=None):
        return {n: torch.cos(3 * g) for n, g in self.true.items()}


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_its_mean_is_the_covariance_times_the_gradient(alpha):
    """Each of 16 means within 5 standard errors: a false alarm in 1e5 seeds, and the seed is fixed."""
    objective = MisguidedLoss(linear().true)
    estimator = GuidedES(alpha=alpha, samples=1)
    draws = seeded(0)
    samples = torch.stack([flat(estimator.direction(objective, draws)[0]) for _ in range(500)])
    guide, gradient = flat(objective.gradient()), flat(objective.true)
    guide = guide / guide.norm()
    expected = alpha / 16 * gradient + (1 - alpha) * (guide @ gradient) * guide
    z = (samples.mean(0) - expected) / (samples.std(0) / math.sqrt(500))
    assert z.abs().max() < 5


def test_alpha_0_stays_in_the_span_of_the_gradients():
    objective = perceptron(names=("hidden1", "hidden2"))
    one, _ = GuidedES(alpha=0.0, samples=50).direction(objective, seeded(0))
    gradient = flat(objective.gradient())
    cosine = flat(one) @ gradient / flat(one).norm() / gradient.norm()
    assert abs(cosine) == pytest.approx(1, abs=1e-12)
    three, evaluations = GuidedES(alpha=0.0, samples=50, gradients=3, spread=0.3).direction(objective, seeded(0))
    cosine = flat(three) @ gradient / flat(three).norm() / gradient.norm()
    assert abs(cosine) < 0.999
    assert evaluations == 2 * 50 + 3


def test_alpha_1_is_nes():
    objective = perceptron()
    objective.elements = 2**10  # one block of noise
    guided, _ = GuidedES(alpha=1.0, sigma=0.8, samples=50).direction(objective, seeded(0))
    plain, _ = NES(sigma=0.8 / 8, samples=50).direction(objective, seeded(0))
    torch.testing.assert_close(guided["hidden1"], plain["hidden1"] / 64)


def test_gradients_that_depend_on_each_other_count_once():
    objective = linear()
    one, _ = GuidedES(samples=20).direction(objective, seeded(0))
    assert len(GuidedES(gradients=3)._basis(objective, seeded(0))) == 1
    assert flat(one) @ flat(objective.true) > 0


def test_without_a_gradient_it_searches_everywhere():
    objective = perceptron()
    objective.gradient = lambda: {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
    blind, _ = GuidedES(alpha=0.1, samples=50).direction(objective, seeded(0))
    everywhere, _ = GuidedES(alpha=1.0, samples=50).direction(perceptron(), seeded(0))
    assert flat(blind).count_nonzero() == 64
    torch.testing.assert_close(flat(blind), flat(everywhere))
