"""Central differences of perceptrons: three ways to the same numbers, and second order where the loss is smooth."""

import itertools
import math

import pytest
import torch

from lowbit.estimators._base import norm
from lowbit.estimators.autograd import Autograd
from lowbit.estimators.cdg import CDG
from lowbit.problems._base import stream
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.identity import Identity

LAYERS = ("hidden1", "hidden2", "hidden3", "readout")


def objective_of(activation, dim, batch_size, names=None):
    problem = TeacherStudent(dim=dim, activation=activation, dtype="float64")
    return problem.objective(problem.start(0), Identity(), stream(0, "batch"), batch_size, names)


@pytest.mark.parametrize("dim", [4, 8])
@pytest.mark.parametrize("activation", ["binary", "ternary", "2bit", "full"])
def test_loop_stacked_and_incremental_agree(activation, dim):
    objective = objective_of(activation, dim, 200, LAYERS)
    before = {n: t.clone() for n, t in objective.parameters.items()}
    loop, stacked, incremental = (
        CDG(epsilon=0.1, method=method).direction(objective, torch.Generator())[0]
        for method in ("loop", "stacked", "incremental")
    )
    for name in LAYERS:
        # Of the layer's largest entry: losses near 1 are rounded at 1e-16 and divided by 2 epsilon.
        tolerance = 1e-12 * float(loop[name].abs().max())
        assert tolerance > 1e-15, "nothing flips: the comparison would be of zeros"
        torch.testing.assert_close(stacked[name], loop[name], rtol=0, atol=tolerance)
        torch.testing.assert_close(incremental[name], loop[name], rtol=0, atol=tolerance)
        assert torch.equal(objective.parameters[name], before[name])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("activation", ["binary", "ternary", "2bit"])
def test_one_layer_alone_has_the_differences_that_it_has_among_all(activation, name):
    alone, among = (objective_of(activation, 4, 200, names) for names in ((name,), LAYERS))
    for method in ("stacked", "incremental"):
        one, all_layers = (CDG(method=method).direction(o, torch.Generator())[0][name] for o in (alone, among))
        torch.testing.assert_close(one, all_layers, rtol=0, atol=1e-12 * float(one.abs().max()))


def difference(objective, epsilon):
    truth = Autograd().direction(objective, torch.Generator())[0]
    estimate = CDG(epsilon=epsilon, method="stacked").direction(objective, torch.Generator())[0]
    dot = sum(float((truth[n] * estimate[n]).sum()) for n in truth)
    error = norm({n: estimate[n] - truth[n] for n in truth}) / norm(truth)
    return float(error), dot / float(norm(truth) * norm(estimate))


def test_the_error_on_a_smooth_network_falls_as_epsilon_squared():
    objective = objective_of("tanh", 8, 256)
    widths = [1e-1, 10**-1.5, 1e-2, 10**-2.5, 1e-3]
    errors = [difference(objective, epsilon)[0] for epsilon in widths]
    # Rounding, about 1e-16 / 1e-3, is far below the last error, about 1e-7.
    for wide, narrow in itertools.pairwise(errors):
        assert 2 * math.log10(wide / narrow) == pytest.approx(2, abs=0.1)


def test_the_direction_on_a_smooth_network_is_the_gradient():
    assert difference(objective_of("tanh", 8, 256), 1e-4)[1] > 1 - 1e-8
