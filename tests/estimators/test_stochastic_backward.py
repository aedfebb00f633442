"""Random derivatives: unbiased for the surrogate that is their mean, on signs that stay as they are."""

import math

import pytest
import torch
from small_objectives import LinearLoss, perceptron, seeded

from lowbit.estimators.stochastic_backward import StochasticBackward
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates.swish_sign import SwishSign
from lowbit.surrogates.triangle import Triangle
from lowbit.surrogates.window import Window

NAMES = ("hidden1", "hidden2", "hidden3")


def flat(direction):
    return torch.cat([t.flatten() for t in direction.values()])


def worst_z(estimator, objective, expected, count=500):
    draws = seeded(0)
    samples = torch.stack([flat(estimator.direction(objective, draws)[0]) for _ in range(count)])
    error, spread = samples.mean(0) - flat(expected), samples.std(0) / math.sqrt(count)
    assert (error[spread < 1e-15].abs() < 1e-12).all()
    return (error / spread)[spread >= 1e-15].abs().max()


@pytest.mark.parametrize("surrogate", [Window(), Triangle(), SwishSign()], ids=str)
@pytest.mark.parametrize("activation", ["binary", "2bit"])
def test_a_mask_is_unbiased_for_the_surrogate(surrogate, activation):
    """48 means within 5 standard errors: a false alarm in 3e4 seeds, and the seed is fixed."""
    objective = perceptron(dim=4, samples=32, names=NAMES, activation=activation)
    objective.surrogate = surrogate
    assert worst_z(StochasticBackward(noise="bernoulli"), objective, objective.gradient()) < 5


def test_a_random_window_is_unbiased_for_the_trapezoid():
    def trapezoid(z, quantizer):
        slope = ((1.4 - z.detach().abs()) / 1.2).clamp(0, 1)
        return quantizer.quantize(z.detach()).dequantize() + slope * (z - z.detach())

    objective = perceptron(dim=4, samples=32, names=NAMES)
    estimator = StochasticBackward(low=0.2, width=1.2)
    assert worst_z(estimator, objective, objective.gradient(trapezoid)) < 5
    assert worst_z(estimator, objective, objective.gradient()) > 5  # the check sees another surrogate


def test_a_mask_that_keeps_everything_of_a_window_is_the_window():
    objective = perceptron(names=NAMES)
    direction, _ = StochasticBackward(noise="bernoulli", keep=1.0).direction(objective, seeded(0))
    torch.testing.assert_close(direction, objective.gradient())


@pytest.mark.parametrize("noise", ["window", "bernoulli"])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_the_forward_pass_is_the_quantizer(noise, levels):
    objective, quantizer = perceptron(), Uniform(levels=levels)
    z = torch.randn(50, 4, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    rounding = StochasticBackward(noise=noise)._rounding(objective, seeded(0))
    assert torch.equal(rounding(z, quantizer), quantizer.quantize(z.detach()).dequantize())


def test_samples_are_averaged_over_a_common_series():
    objective, draws = perceptron(names=NAMES), seeded(5)
    single = [flat(StochasticBackward().direction(objective, draws)[0]) for _ in range(3)]
    mean, evaluations = StochasticBackward(samples=3).direction(objective, seeded(5))
    assert evaluations == 3
    torch.testing.assert_close(flat(mean), torch.stack(single).mean(0))


def test_a_mask_needs_a_surrogate():
    with pytest.raises(ValueError, match="names no surrogate"):
        StochasticBackward(noise="bernoulli").direction(LinearLoss({"a": torch.ones(3).double()}), seeded(0))
