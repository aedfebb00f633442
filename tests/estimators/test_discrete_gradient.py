"""Discrete gradient, one and several steps: choices on stairs, a brute-force loop, and budgets."""

import pytest
import torch
from small_objectives import Stairs, loss_after, perceptron, seeded

from lowbit.estimators._base import norm
from lowbit.estimators.dg import DG
from lowbit.estimators.multi_step_dg import MultiStepDG

POWER = {"decrease": 0, "decrease_per_length": 1, "decrease_per_squared_length": 2}


def step_of(estimator, objective):
    direction, _ = estimator.direction(objective, seeded(0))
    return {n: -t for n, t in direction.items()}


@pytest.mark.parametrize(
    ("mode", "score", "epsilon", "expected"),
    [
        ("first", "decrease_per_squared_length", 0.06, [0.02, -0.03]),
        ("best", "decrease_per_squared_length", 0.06, [0.05, -0.03]),  # 400 per square at .05, 250 at .02
        ("best", "decrease_per_squared_length", 0.055, [0.05, 0.0]),  # .05^2 + .03^2 is too much
        ("best", "decrease_per_length", 0.04, [0.02, -0.03]),  # .02^2 + .03^2 still fits
        ("best", "decrease_per_length", 0.035, [0.0, -0.03]),  # 10 per length at -.03, 5 at .02
        ("first", "decrease", 0.03, [0.0, -0.03]),
        ("best", "decrease", 0.06, [0.05, -0.03]),
    ],
)
def test_choices_on_two_stairs(mode, score, epsilon, expected):
    objective = Stairs([[(0.02, 0.1), (0.05, 0.9)], [(-0.03, 0.3)]])
    step = step_of(DG(epsilon=epsilon, stride=0.01, mode=mode, score=score), objective)
    torch.testing.assert_close(step["w"].tolist(), expected)


def test_a_rounding_error_is_no_decrease_and_no_reason_to_go_further():
    error = 4e-15  # two units in the last place of the loss, 10
    step = step_of(DG(epsilon=0.2, stride=0.01), Stairs([[(0.02, error)], [(0.03, 0.1)]]))
    torch.testing.assert_close(step["w"].tolist(), [0.0, 0.03])
    best = DG(epsilon=0.2, stride=0.01, mode="best", score="decrease")
    step = step_of(best, Stairs([[(0.02, 0.1), (0.05, error)], []]))
    torch.testing.assert_close(step["w"].tolist(), [0.02, 0.0])


def test_of_two_signs_the_better_is_the_first():
    step = step_of(DG(epsilon=0.05, stride=0.01), Stairs([[(0.02, 0.1), (-0.02, 0.2)], [(0.03, -0.3)]]))
    torch.testing.assert_close(step["w"].tolist(), [-0.02, 0.0])


def test_a_coordinate_that_only_raises_the_loss_stays():
    step = step_of(DG(epsilon=0.05, stride=0.01, mode="best"), Stairs([[(0.02, -0.1), (-0.01, -0.2)], [(0.03, 0.3)]]))
    torch.testing.assert_close(step["w"].tolist(), [0.0, 0.03])


@pytest.mark.parametrize("estimator", [DG(epsilon=9e-4), MultiStepDG(epsilon=9e-3, steps=10)])
def test_a_budget_below_the_stride_leaves_no_move(estimator):
    direction, evaluations = estimator.direction(perceptron(), seeded(0))
    assert not any(t.any() for t in direction.values())
    assert evaluations == 0


def brute_force(objective, epsilon, stride, mode, score):
    """The definition, one loss at a time."""
    base, tensor = float(objective.loss(objective.parameters)), objective.parameters["hidden1"]
    candidates = []
    for number in range(tensor.numel()):
        moves = []
        for j in range(1, round(epsilon / stride) + 1):
            for sign in (1, -1):
                moved = tensor.flatten().clone()
                moved[number] += sign * j * stride
                decrease = base - float(objective.loss({"hidden1": moved.view_as(tensor)}))
                if decrease > 1e-12:
                    moves.append((decrease / (j * stride) ** POWER[score], j, sign))
        if mode == "first" and moves:
            moves = [m for m in moves if m[1] == min(n for _, n, _ in moves)]
        if moves:
            value = max(m[0] for m in moves)
            candidates.append((value, number, *next(m[1:] for m in moves if m[0] > value * (1 - 1e-9))))
    step, spent = torch.zeros(tensor.numel(), dtype=tensor.dtype), 0.0
    for _, number, j, sign in sorted(candidates, key=lambda c: -c[0]):
        spent += (j * stride) ** 2
        if spent > epsilon**2 * (1 + 1e-9):
            break
        step[number] = sign * j * stride
    return step.view_as(tensor)


@pytest.mark.parametrize("activation", ["binary", "2bit"])
@pytest.mark.parametrize("mode", ["first", "best"])
@pytest.mark.parametrize("score", POWER)
def test_it_is_the_brute_force_loop(activation, mode, score):
    objective = perceptron(activation=activation)
    expected = brute_force(objective, 0.1, 0.02, mode, score)
    assert 1 <= int((expected != 0).sum()) < expected.numel()
    for method in ("loop", "stacked", "incremental"):
        step = step_of(DG(epsilon=0.1, stride=0.02, mode=mode, score=score, method=method), objective)["hidden1"]
        torch.testing.assert_close(step, expected, rtol=1e-12, atol=0, msg=method)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["first", "best"])
@pytest.mark.parametrize("epsilon", [0.3, 0.1, 0.05])
@pytest.mark.parametrize("estimator", [DG, MultiStepDG])
def test_the_budget_is_kept(estimator, epsilon, mode, dtype):
    objective = perceptron(dtype=dtype, names=("hidden1", "hidden2"))
    settings = {"steps": 3} if estimator is MultiStepDG else {}
    step = step_of(estimator(epsilon=epsilon, stride=epsilon / 10, mode=mode, **settings), objective)
    slack = 4 * torch.finfo(getattr(torch, dtype)).eps * float(norm(objective.parameters))
    assert 0 < norm(step) <= epsilon + slack


def test_one_step_of_many_is_the_discrete_gradient():
    objective, shared = perceptron(), {"epsilon": 0.1, "stride": 0.01}
    single, several = step_of(DG(**shared), objective), step_of(MultiStepDG(steps=1, **shared), objective)
    torch.testing.assert_close(single, several, rtol=0, atol=1e-15)


def test_a_second_step_searches_from_where_the_first_ended():
    stairs = Stairs([[(0.02, 0.1), (0.05, 0.9)], [(-0.03, 0.3)]])
    estimator = MultiStepDG(epsilon=0.12, steps=3, stride=0.01)  # .02 and -.03; then on to .05; then nothing is left
    direction, evaluations = estimator.direction(stairs, seeded(0))
    torch.testing.assert_close((-direction["w"]).tolist(), [0.05, -0.03])
    assert evaluations == 3 * (1 + 2 * 2 * 4)
    assert loss_after(stairs, direction) == pytest.approx(10 - 1.3)


def test_it_ends_early_where_no_move_helps():
    direction, evaluations = MultiStepDG(epsilon=0.1, steps=5, stride=0.01).direction(Stairs([[], []]), seeded(0))
    assert not direction["w"].any()
    assert evaluations == 1 + 2 * 2 * 2
