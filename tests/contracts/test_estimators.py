"""What every estimator owes, with its default settings; and broken ones that each check must catch."""

import pytest
import torch
from checks import estimators as checks
from checks.estimators import (
    ALWAYS_STEPS,
    DETERMINISTIC,
    OF_STOCHASTIC_NETWORKS,
    Linear,
    small_objective,
    stochastic_objective,
)

from lowbit import catalog
from lowbit.estimators._base import Estimator
from lowbit.estimators.autograd import Autograd

each = pytest.mark.parametrize("name", catalog.available("estimators"))
each_general = pytest.mark.parametrize("name", sorted(set(catalog.available("estimators")) - OF_STOCHASTIC_NETWORKS))


def objective_for(name):
    return stochastic_objective() if name in OF_STOCHASTIC_NETWORKS else small_objective()


@each
def test_direction_has_the_form_of_the_parameters(name):
    checks.check_form(catalog.build("estimators", {"name": name}), objective_for(name))


@each_general
def test_direction_has_the_form_of_one_float64_tensor(name):
    checks.check_form(catalog.build("estimators", {"name": name}), small_objective(torch.float64, ("hidden2",), 4))


@each
def test_randomness_comes_from_the_generator_alone(name):
    checks.check_generator(catalog.build("estimators", {"name": name}), objective_for(name), name in DETERMINISTIC)


@each
def test_parameters_are_left_as_they_are(name):
    checks.check_leaves_no_trace(catalog.build("estimators", {"name": name}), objective_for(name))


@each_general
def test_evaluations_are_counted_exactly(name):
    checks.check_evaluations(catalog.build("estimators", {"name": name}), small_objective(dim=3))


@pytest.mark.parametrize("name", sorted(set(catalog.available("estimators")) - ALWAYS_STEPS - OF_STOCHASTIC_NETWORKS))
def test_a_constant_loss_gives_no_direction(name):
    checks.check_constant_loss(catalog.build("estimators", {"name": name}))


@each_general
def test_a_linear_loss_falls_along_minus_the_direction(name):
    checks.check_descends(catalog.build("estimators", {"name": name}))


class HalfPrecision(Autograd):
    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        return {n: g.half() for n, g in gradient.items()}, count


class OneTensorOnly(Autograd):
    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        return dict(list(gradient.items())[:1]), count


class DividesByZero(Autograd):
    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        return {n: g / torch.zeros(()) for n, g in gradient.items()}, count


class GlobalNoise(Autograd):
    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        return {n: g + torch.randn(g.shape) for n, g in gradient.items()}, count


class FixedNoise(Autograd):
    """Seeds its own generator, whatever it is given."""

    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        own = torch.Generator().manual_seed(0)
        return {n: g + torch.randn(g.shape, generator=own) for n, g in gradient.items()}, count


class StepsInPlace(Autograd):
    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        for n, g in gradient.items():
            objective.parameters[n].sub_(0.1 * g)
        return gradient, count


class ForgetsToStepBack(Estimator):
    """The nested loop of the notes without its last + epsilon."""

    def direction(self, objective, generator):
        result = {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
        for name, tensor in objective.parameters.items():
            for number in range(tensor.numel()):
                flat = tensor.view(-1)
                flat[number] += 0.1
                plus = objective.loss(objective.parameters)
                flat[number] -= 0.2
                result[name].view(-1)[number] = (plus - objective.loss(objective.parameters)) / 0.2
        return result, 2 * objective.size


class ReturnsThePoint(Autograd):
    def direction(self, objective, generator):
        return dict(objective.parameters), 1


class LeavesGradients(Estimator):
    """Calls backward on the point's own tensors."""

    def direction(self, objective, generator):
        for tensor in objective.parameters.values():
            tensor.requires_grad_()
        objective.loss(objective.parameters).backward()
        return {n: t.grad.clone() for n, t in objective.parameters.items()}, 1


class CountsPairsAsOne(Autograd):
    def direction(self, objective, generator):
        return super().direction(objective, generator)[0], 2


class Uphill(Autograd):
    """Returns the step where a direction is promised."""

    def direction(self, objective, generator):
        gradient, count = super().direction(objective, generator)
        return {n: -g for n, g in gradient.items()}, count


class OneSided(Estimator):
    """Carries the loss itself as noise."""

    def direction(self, objective, generator):
        noise = {n: torch.randn(t.shape, generator=generator) for n, t in objective.parameters.items()}
        loss = objective.loss({n: t + 0.1 * noise[n] for n, t in objective.parameters.items()})
        return {n: loss * e for n, e in noise.items()}, 1


BROKEN = {
    "another dtype": lambda: checks.check_form(HalfPrecision(), small_objective()),
    "a tensor is missing": lambda: checks.check_form(OneTensorOnly(), small_objective()),
    "not finite": lambda: checks.check_form(DividesByZero(), small_objective()),
    "global generator": lambda: checks.check_generator(GlobalNoise(), small_objective(), False),
    "generator ignored": lambda: checks.check_generator(FixedNoise(), small_objective(), False),
    "noise unannounced": lambda: checks.check_generator(OneSided(), small_objective(), True),
    "in place": lambda: checks.check_leaves_no_trace(StepsInPlace(), small_objective()),
    "not stepped back": lambda: checks.check_leaves_no_trace(ForgetsToStepBack(), small_objective()),
    "the point's own memory": lambda: checks.check_leaves_no_trace(ReturnsThePoint(), small_objective()),
    "gradients left": lambda: checks.check_leaves_no_trace(LeavesGradients(), small_objective()),
    "miscounted": lambda: checks.check_evaluations(CountsPairsAsOne(), small_objective()),
    "loss as noise": lambda: checks.check_constant_loss(OneSided()),
    "uphill": lambda: checks.check_descends(Uphill()),
}


@pytest.mark.parametrize("control", BROKEN.values(), ids=BROKEN)
def test_a_broken_estimator_is_caught(control):
    with pytest.raises(AssertionError):
        control()


def test_what_the_controls_break_is_sound():
    estimator = Autograd()
    checks.check_form(estimator, Linear(1.0))
    checks.check_generator(estimator, Linear(1.0), True)
    checks.check_leaves_no_trace(estimator, Linear(1.0))
