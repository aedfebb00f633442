"""Problems with a known gradient: the closed form is the derivative of the loss, and fast losses are the slow ones."""

import math

import pytest
import torch

from lowbit import catalog
from lowbit.estimators._coordinates import coordinate_losses
from lowbit.problems._base import stream
from lowbit.surrogates.identity import Identity

SETTINGS = {
    "rosenbrock": {"pairs": 3, "reach": 2},
    "quadratic": {"dim": 6},
    "stochastic_binary": {"dim": 3, "layers": 2},
    "sign_neuron": {"dim": 4},
}
each = pytest.mark.parametrize("name", SETTINGS)
smooth = pytest.mark.parametrize("name", ["rosenbrock", "quadratic"])


def objective_of(name, **settings):
    problem = catalog.build("problems", {"name": name, **SETTINGS[name], **settings})
    return problem.objective(problem.start(3), Identity(), stream(3, "batch"), 32)


def perturbed(objective, count):
    draws = stream(5)
    return {
        n: t + 0.3 * torch.randn(count, *t.shape, generator=draws).double() for n, t in objective.parameters.items()
    }


@smooth
def test_the_closed_form_is_the_derivative_of_the_loss(name):
    objective = objective_of(name)
    truth, backpropagated = objective.true_gradient(), objective.gradient()
    for key, tensor in truth.items():
        torch.testing.assert_close(tensor, backpropagated[key], rtol=1e-11, atol=1e-11)
        assert tensor.abs().max() > 1e-3


@each
def test_stacked_losses_are_single_losses(name):
    objective = objective_of(name)
    stack = perturbed(objective, 4)
    singles = [objective.loss({n: t[k] for n, t in stack.items()}) for k in range(4)]
    torch.testing.assert_close(objective.losses(stack), torch.stack(singles), rtol=1e-12, atol=1e-12)


@each
def test_losses_with_one_coordinate_moved_are_those_of_the_loop(name):
    objective = objective_of(name)
    for key, tensor in objective.parameters.items():
        fast, slow = (
            coordinate_losses(objective, key, torch.arange(tensor.numel()).flip(0), (0.3, -0.1), method)
            for method in ("incremental", "loop")
        )
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@each
def test_another_point_is_the_same_loss_on_the_same_batch(name):
    objective = objective_of(name)
    point = {n: t[0] for n, t in perturbed(objective, 1).items()}
    moved = objective.at(point)
    assert moved.loss(moved.parameters) == objective.loss(point)
    assert not torch.equal(*(next(iter(o.true_gradient().values())) for o in (moved, objective)))
    assert type(moved.at(objective.parameters)) is type(objective)
    assert objective.loss(objective.parameters) == objective_of(name).loss(objective.parameters)


@each
def test_a_seed_is_a_start(name):
    problem = catalog.build("problems", {"name": name, **SETTINGS[name]})
    one, again, other = problem.start(1), problem.start(1), problem.start(2)
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert not any(torch.equal(one[n], other[n]) for n in one)
    assert all(t.dtype == torch.float64 for t in one.values())


def test_rosenbrock_starts_at_integers_and_ends_at_ones():
    problem = catalog.build("problems", {"name": "rosenbrock"})
    x = problem.start(0)["x"]
    assert x.shape == (100,)
    assert torch.equal(x, x.round())
    assert (x.min(), x.max()) == (-10, 10)
    at_ones = problem.objective({"x": torch.ones(100, dtype=torch.float64)})
    assert at_ones.loss(at_ones.parameters) == 0
    assert not at_ones.true_gradient()["x"].any()


def test_quadratic_has_the_condition_that_was_asked_for():
    problem = catalog.build("problems", {"name": "quadratic", "dim": 40, "condition": 50.0})
    eigenvalues = torch.linalg.eigvalsh(problem.start(0)["matrix"])
    torch.testing.assert_close(eigenvalues[[0, -1]], torch.tensor([0.02, 1.0]).double(), rtol=1e-6, atol=0)


def test_stochastic_loss_is_the_sum_over_all_joint_states():
    objective = objective_of("stochastic_binary")
    tensors = catalog.build("problems", {"name": "stochastic_binary", **SETTINGS["stochastic_binary"]}).start(3)
    values = torch.tensor([-1.0, 1.0]).double()
    total = 0.0
    for joint in torch.cartesian_prod(*[values] * 6):
        lower, upper = joint.view(2, 3)
        up = torch.sigmoid(lower * (objective.inputs @ tensors["student.layer1"].T)).prod(1)
        up = up * torch.sigmoid(upper * (tensors["student.layer2"] @ lower)).prod()
        total += (up * objective.sample_losses(upper.expand(32, 3))).mean()
    torch.testing.assert_close(objective.loss(objective.parameters), total, rtol=1e-12, atol=0)


def test_stochastic_teacher_is_met_up_to_the_variance_of_its_units():
    problem = catalog.build("problems", {"name": "stochastic_binary", **SETTINGS["stochastic_binary"]})
    tensors = problem.start(3)
    tensors |= {n.replace("teacher", "student"): t for n, t in tensors.items() if n.startswith("teacher")}
    objective = problem.objective(tensors, None, stream(3, "batch"), 16)
    run = objective.run(objective.uniforms(20_000, stream(1)))
    # 20,000 x 16 samples: 5 standard errors of a mean
    error = 5 * run.losses.std() / math.sqrt(run.losses.numel())
    assert abs(run.losses.mean() - objective.loss(objective.parameters)) < error


def test_training_lowers_the_exact_stochastic_loss():
    raw, trained = objective_of("stochastic_binary"), objective_of("stochastic_binary", train_updates=100)
    assert trained.loss(trained.parameters) < 0.8 * raw.loss(raw.parameters)


def test_stochastic_states_take_no_rounding():
    objective = objective_of("stochastic_binary")
    with pytest.raises(ValueError, match="leave it out"):
        objective.loss(objective.parameters, lambda z, quantizer: z)


def test_two_sign_neurons_disagree_as_often_as_their_angle_says():
    problem = catalog.build("problems", {"name": "sign_neuron", "angle": 1.2, "length": 3.0})
    tensors = problem.start(0)
    batch = problem.objective(tensors, Identity(), stream(0), 100_000)
    assert batch.parameters["weight"].norm() == pytest.approx(3.0)
    assert problem.population_loss(tensors) == pytest.approx(4.8 / math.pi)
    share = 1.2 / math.pi  # of samples on which they disagree, each at a loss of 4
    error = 5 * 4 * math.sqrt(share * (1 - share) / 100_000)  # 5 standard errors
    assert float(batch.loss(batch.parameters)) == pytest.approx(4.8 / math.pi, abs=error)


def test_the_gradient_of_two_sign_neurons_is_that_of_their_angle():
    problem = catalog.build("problems", {"name": "sign_neuron", "length": 2.0})
    tensors = problem.start(0)
    objective = problem.objective(tensors, Identity(), stream(0), 1)
    weight = tensors["student.weight"].clone().requires_grad_()
    teacher = tensors["teacher.weight"]
    angle = torch.acos((weight * teacher).sum() / weight.norm() / teacher.norm())
    (expected,) = torch.autograd.grad(4 / math.pi * angle, weight)
    torch.testing.assert_close(objective.true_gradient()["weight"], expected, rtol=1e-12, atol=1e-12)
