"""Stochastic rounding: its signs, their mean, what temperature does, its derivatives, and its evaluation modes."""

import pytest
import torch
from small_objectives import perceptron, seeded

from lowbit.estimators.sr_ste import SRSTE
from lowbit.quantizers.uniform import Uniform

BACKWARD = ("identity", "window", "through_relaxation", "inverse_scale")
Z = torch.randn(6, 9, dtype=torch.float64, generator=seeded(1)) * 1.5


def rounded(z, seed=0, **settings):
    return SRSTE(**settings).rounding(seeded(seed))(z, Uniform())


def normalised(z):
    return torch.where(z > 0, z / z.max(), z / z.min().abs())


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_are_signs_whatever_the_activations(backward, dtype):
    for z in (Z, Z.abs(), -Z.abs(), torch.zeros(3, 4), torch.full((2, 2), 1e-40), 1e30 * Z):
        signs = rounded(z.to(dtype), backward=backward)
        assert signs.abs().eq(1).all()
        assert signs.dtype == dtype


def test_the_mean_is_the_normalised_activation():
    """54 means within 5 standard errors: a false alarm in 3e4 seeds, and the seed is fixed."""
    rounding, count = SRSTE().rounding(seeded(0)), 4000
    mean = torch.stack([rounding(Z, Uniform()) for _ in range(count)]).mean(0)
    expected = normalised(Z).clamp(-1 + 2e-6, 1 - 2e-6)
    z_score = (mean - expected) / ((1 - expected.square()) / count).sqrt()
    extreme = expected.abs() > 1 - 1e-5  # 4000 draws hold no sign of probability 1e-6
    assert z_score[~extreme].abs().max() < 5
    torch.testing.assert_close(mean[extreme], expected[extreme].sign())
    assert int(extreme.sum()) == 2


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 5.0])
def test_signs_do_not_depend_on_temperature(temperature):
    """With the same uniform numbers they are those of the recipe: relax, subtract a half, take the sign."""
    signs = rounded(Z, temperature=temperature, backward="through_relaxation")
    p = ((normalised(Z) + 1) / 2).clamp(1e-6, 1 - 1e-6)
    u = torch.rand(Z.shape, generator=seeded(0), dtype=Z.dtype)
    relaxed = torch.sigmoid((torch.logit(p) + torch.logit(u)) / temperature)
    assert torch.equal(signs, (relaxed - 0.5).sign())
    assert torch.equal(signs, rounded(Z, temperature=2.0))


def slope(z, **settings):
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(rounded(leaf, **settings).sum(), leaf)[0]


def test_derivatives():
    scale = torch.where(Z > 0, Z.max(), Z.min().abs())
    assert torch.equal(slope(Z, backward="identity"), torch.ones_like(Z))
    assert torch.equal(slope(Z, backward="window"), (Z.abs() <= 1).double())
    torch.testing.assert_close(slope(Z, backward="inverse_scale"), 1 / scale)
    torch.testing.assert_close(slope(-Z, backward="inverse_scale"), 1 / scale)
    assert len(scale.unique()) == 2


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_derivative_through_the_relaxation_is_that_of_the_relaxed_sign(temperature):
    scale = torch.where(Z > 0, Z.max(), Z.min().abs())
    u = torch.rand(Z.shape, generator=seeded(0), dtype=Z.dtype)

    def relaxed(z):
        p = ((z / scale + 1) / 2).clamp(1e-6, 1 - 1e-6)
        return 2 * torch.sigmoid((torch.logit(p) + torch.logit(u)) / temperature) - 1

    numeric = (relaxed(Z + 1e-6) - relaxed(Z - 1e-6)) / 2e-6
    inner = normalised(Z).abs() < 1 - 1e-5
    found = slope(Z, backward="through_relaxation", temperature=temperature)
    torch.testing.assert_close(found[inner], numeric[inner], rtol=1e-5, atol=1e-7)
    assert not found[~inner].any()  # where p is clipped


def test_gradients_are_averaged_over_a_common_series():
    objective, draws = perceptron(names=("hidden1", "hidden3")), seeded(5)
    single = [SRSTE(samples=1).direction(objective, draws)[0] for _ in range(3)]
    mean, evaluations = SRSTE(samples=3).direction(objective, seeded(5))
    assert evaluations == 3
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, torch.stack([s[name] for s in single]).mean(0))


def test_losses_are_rounded_stochastically_only_where_asked():
    assert SRSTE().evaluation_rounding(seeded(0)) is None
    assert SRSTE(evaluation="gradient_only").evaluation_rounding(seeded(0)) is None
    rounding, objective = SRSTE(evaluation="both").evaluation_rounding(seeded(0)), perceptron()
    losses = {float(objective.loss(objective.parameters, rounding)) for _ in range(5)}
    assert len(losses) == 5
    assert float(objective.loss(objective.parameters)) not in losses


def test_gradient_only_has_plain_signs_and_a_random_derivative():
    settings = {"backward": "through_relaxation", "evaluation": "gradient_only"}
    assert torch.equal(rounded(Z, **settings), torch.where(Z >= 0, 1.0, -1.0).double())
    assert torch.equal(slope(Z, **settings), slope(Z, backward="through_relaxation"))
    with pytest.raises(ValueError, match="must be through_relaxation"):
        SRSTE(evaluation="gradient_only").direction(perceptron(), seeded(0))


def test_a_rounding_to_more_levels_is_refused():
    with pytest.raises(ValueError, match="must be 1 bit"):
        SRSTE().direction(perceptron(activation="2bit"), seeded(0))


def test_without_roundings_it_is_the_gradient():
    objective = perceptron(activation="tanh")
    direction, _ = SRSTE(samples=2).direction(objective, seeded(0))
    torch.testing.assert_close(direction, objective.gradient())


def test_the_normalised_probability_of_the_extremes_is_clipped():
    """A sign of probability 1e-6 is drawn when u says so: the largest activation is not certain."""
    z = torch.ones(1, 2_000_000)
    assert 0 < int((rounded(z) < 0).sum()) < 20
