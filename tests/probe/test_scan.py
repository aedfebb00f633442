"""Scans along a direction: the best step, the ends of the grid, and losses that agree with the plain ones."""

import math

import pytest
import torch

from lowbit.estimators.autograd import Autograd
from lowbit.estimators.sr_ste import SRSTE
from lowbit.probe.scan import decrease_at, grid, loss_at, scan, unit
from lowbit.problems._base import stream
from lowbit.problems.quadratic import Quadratic
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.window import Window


@pytest.fixture
def bowl():
    """1/2 x'x + b'x at its start: along the gradient the best step is |g|, and the loss falls by |g|^2 / 2."""
    problem = Quadratic(dim=5, condition=1.0)
    return problem.objective(problem.start(0))


def student(seed=0, **settings):
    problem = TeacherStudent(dim=8, dtype="float64", **settings)
    return problem.objective(problem.start(seed), Window(), stream(seed, "test"), 256)


def test_the_best_step_is_found_between_the_points_of_the_grid(bowl):
    g = bowl.true_gradient()
    length = float(g["x"].norm())
    found = scan(bowl, unit(g, "all"), grid(1e-3 * length, 1e3 * length, 13))
    assert found.best_rate == pytest.approx(length, rel=0.05)  # neighbours are 10^0.5 apart, refined twice by 10
    assert found.best_decrease == pytest.approx(length**2 / 2, rel=2e-3)
    assert found.at_grid_end == ""
    assert found.best_decrease >= found.decreases.max()
    assert found.evaluations == 1 + 13 + 2 * 11, "the point itself, the grid, and two refinements of 9 with their ends"


@pytest.mark.parametrize(("low", "high", "end"), [(1e-6, 1e-3, "high"), (1e3, 1e6, "low")])
def test_an_optimum_at_the_grids_end_is_flagged(bowl, low, high, end):
    g = bowl.true_gradient()
    length = float(g["x"].norm())
    assert scan(bowl, unit(g, "all"), grid(low * length, high * length, 20)).at_grid_end == end


def test_a_direction_that_climbs_ends_at_the_smallest_step(bowl):
    up = {"x": -bowl.true_gradient()["x"]}
    found = scan(bowl, unit(up, "all"), grid(1e-6, 1.0, 30))
    assert found.at_grid_end == "low"
    assert found.best_decrease < 0


def test_the_slope_at_small_steps_is_that_of_the_gradient():
    objective = student(activation="tanh")
    g = Autograd().direction(objective, torch.Generator())[0]
    step = unit(g, "all")
    slope = sum(float((g[n] * step[n]).sum()) for n in g)
    assert decrease_at(objective, step, 1e-6) / 1e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("activation", ["binary", "ternary", "full"])
@pytest.mark.parametrize("names", [("hidden1",), ("hidden2", "hidden3"), ("hidden1", "hidden2", "hidden3", "readout")])
def test_losses_along_a_line_are_the_plain_losses(activation, names):
    problem = TeacherStudent(dim=8, dtype="float64", activation=activation)
    objective = problem.objective(problem.start(0), Window(), stream(0, "test"), 64, names)
    direction = {
        n: torch.randn(t.shape, generator=stream(1, n), dtype=t.dtype) for n, t in objective.parameters.items()
    }
    rates = grid(1e-4, 1.0, 9)
    along = objective.line_losses(direction, rates)
    plain = [objective.loss({n: t - r * direction[n] for n, t in objective.parameters.items()}) for r in rates]
    torch.testing.assert_close(along, torch.stack(plain), rtol=1e-12, atol=0)


def test_units_are_of_each_tensor_or_of_all():
    direction = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([12.0]), "c": torch.zeros(2)}
    assert unit(direction, "tensor")["a"].tolist() == pytest.approx([0.6, 0.8])
    assert unit(direction, "tensor")["c"].tolist() == [0, 0]
    assert math.hypot(*(float(t.norm()) for t in unit(direction, "all").values())) == pytest.approx(1)


def test_losses_with_another_rounding_are_those_of_that_rounding():
    objective = student()
    estimator = SRSTE(evaluation="both")
    rounding = estimator.evaluation_rounding(stream(0, "rounding"))
    assert float(loss_at(objective, objective.parameters, rounding)) != float(loss_at(objective, objective.parameters))
    assert SRSTE().evaluation_rounding(stream(0, "rounding")) is None
