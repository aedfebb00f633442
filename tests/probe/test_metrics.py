"""Metrics against hand-computed values, and against noise of known size."""

import math

import pytest
import torch

from lowbit.probe.metrics import closeness, cosine, noise_ceiling, pass_rate, spread
from lowbit.problems._base import stream
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.identity import Identity
from lowbit.surrogates.window import Window

REFERENCE = {"a": torch.tensor([3.0, -4.0]), "b": torch.tensor([[0.0, 12.0]])}


def test_closeness_by_hand():
    direction = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([[5.0, 2.0]])}
    found = closeness(direction, REFERENCE)
    assert found["cosine"] == pytest.approx(23 / (13 * math.sqrt(31)))
    assert found["sign_agreement"] == pytest.approx(2 / 3)  # the coordinate whose reference is 0 does not count
    assert found["weighted_agreement"] == pytest.approx(15 / 19)
    assert found["zero_fraction"] == 0
    assert closeness(direction, REFERENCE, "a")["sign_agreement"] == 0.5
    assert closeness({"a": torch.zeros(2), "b": torch.zeros(1, 2)}, REFERENCE)["zero_fraction"] == 1


def test_a_direction_of_zeros_has_no_cosine():
    assert math.isnan(cosine(torch.zeros(3), torch.ones(3)))


def test_the_ceiling_is_the_cosine_of_the_mean_to_the_truth():
    truth = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(2, 20000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    halves = [{"x": truth + 0.8 * n} for n in noise]
    mean = (halves[0]["x"] + halves[1]["x"]) / 2
    assert noise_ceiling(halves) == pytest.approx(cosine(mean, truth), abs=0.01)  # 20000 entries: 0.007 each way
    assert math.isnan(noise_ceiling([{"x": truth}, {"x": -truth}]))


def test_spread_recovers_bias_and_variance():
    h = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(64, 500, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    size = float(h @ h)
    bias, variance = 0.5 * float(shift.norm()) / math.sqrt(size), 4.0 * 500 / size
    found = spread([{"x": h + 0.5 * shift + 2.0 * n} for n in noise], {"x": h})
    assert found["variance"] == pytest.approx(variance, rel=0.03)  # 64 x 500 draws: 0.8 % each way
    assert found["bias"] == pytest.approx(bias, rel=0.1)
    assert found["rmse"] == pytest.approx(math.hypot(found["bias"], math.sqrt(found["variance"])))
    unbiased = spread([{"x": h + 2.0 * n} for n in noise], {"x": h})
    assert unbiased["bias"] < 0.1
    assert math.isnan(spread([{"x": h}], {"x": h})["bias"])


@pytest.mark.parametrize("tensor", ["hidden1", "hidden2"])
def test_pass_rate_counts_what_falls_into_the_window_behind_the_studied_tensor(tensor):
    problem = TeacherStudent(dim=6, layers=2)
    start = problem.start(3)

    def posed(surrogate):
        return problem.objective(start, surrogate, stream(3, "batch"), 512, (tensor,))

    x = posed(Window()).inputs
    z = [x @ start["student.hidden1"].T]
    z.append(torch.where(z[0] >= 0, 1.0, -1.0) @ start["student.hidden2"].T)
    behind = torch.cat(z if tensor == "hidden1" else z[1:])
    for width in (0.2, 0.5):
        inside = (behind.abs() <= width).double().mean()
        assert 0 < inside < 1
        assert pass_rate(posed, Window(width=width)) == pytest.approx(float(inside))
    assert pass_rate(posed, Identity()) == 1


def test_pass_rate_of_a_problem_without_roundings_is_unknown():
    smooth = TeacherStudent(dim=4, activation="full")
    start = smooth.start(0)
    assert math.isnan(pass_rate(lambda surrogate: smooth.objective(start, surrogate, stream(0), 8), Window()))
