"""The descent driver: lengths of its steps, its schedule, its log."""

import itertools

import pytest
import torch

from lowbit.estimators.autograd import Autograd
from lowbit.problems._descent import Schedule, descend
from lowbit.problems.quadratic import Quadratic


def test_phases_cover_all_updates_and_decay_by_the_factor():
    schedule = Schedule(updates=36, lr=0.1, epsilon=1e-2, decay_from=30, decay_every=2)
    phases = list(schedule.phases())
    assert [p[:2] for p in phases] == [(0, 30), (30, 32), (32, 34), (34, 36)]
    assert [p[2] for p in phases] == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    assert [p[3] for p in phases] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])


def test_width_stays_when_it_is_not_to_decay():
    phases = Schedule(updates=5, decay_from=2, decay_every=2, decays_epsilon=False).phases()
    assert [p[3] for p in phases] == [1e-2] * 3


def test_a_schedule_that_ends_before_its_decays_has_one_phase():
    assert list(Schedule(updates=7, lr=1.0, epsilon=2.0).phases()) == [(0, 7, 1.0, 2.0)]
    at_once = Schedule(updates=4, lr=1.0, epsilon=2.0, decay_from=0, decay_every=3)
    assert next(at_once.phases()) == pytest.approx((0, 3, 0.1, 0.2))


@pytest.fixture
def objective():
    problem = Quadratic(dim=5)
    return problem.objective(problem.start(0))


def test_each_step_has_the_length_of_its_phase(objective):
    points = [objective.parameters["x"]]
    for updates in (1, 2, 3):
        schedule = Schedule(updates=updates, lr=0.5, decay_from=2, decay_every=1)
        points.append(descend(objective, lambda epsilon: Autograd(), schedule, torch.Generator())[1]["x"])
    lengths = [float((b - a).norm()) for a, b in itertools.pairwise(points)]
    assert lengths == pytest.approx([0.5, 0.5, 0.05])


def test_the_log_has_the_start_the_loss_before_an_update_and_the_end(objective):
    widths = []
    schedule = Schedule(updates=25, lr=1e-3, epsilon=1.0, decay_from=20, decay_every=20)
    log, end = descend(objective, lambda e: widths.append(e) or Autograd(), schedule, torch.Generator(), log_every=10)
    assert [update for update, _ in log] == [0, 10, 20, 25]
    assert log[0][1] == objective.loss(objective.parameters)
    assert log[-1][1] == objective.loss(end)
    assert [a for a, _ in log] == sorted(a for a, _ in log)
    assert [loss for _, loss in log] == sorted((loss for _, loss in log), reverse=True)
    assert widths == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize("setting", ["updates", "lr", "epsilon", "decay_every", "factor"])
def test_a_schedule_of_zeros_is_refused(setting):
    with pytest.raises(ValueError, match=setting):
        Schedule(**({"updates": 10} | {setting: 0}))


def test_a_direction_of_zeros_stays_where_it_is():
    zeros = {"x": torch.zeros(2).double(), "matrix": torch.eye(2).double(), "linear": torch.zeros(2).double()}
    start = Quadratic(dim=2).objective(zeros)
    assert not descend(start, lambda epsilon: Autograd(), Schedule(updates=3), torch.Generator())[1]["x"].any()
