"""The fast paths of the perceptron against its plain loss."""

import pytest
import torch

from lowbit.problems._base import stream
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.window import Window

ALL = ("hidden1", "hidden2", "hidden3")


@pytest.mark.parametrize("activation", ["binary", "ternary", "2bit", "full"])
@pytest.mark.parametrize("names", [("hidden1",), ("hidden2",), ALL, (*ALL, "readout")], ids="+".join)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-4)])
def test_losses_with_noise_are_the_plain_losses(activation, names, dtype, rtol):
    problem = TeacherStudent(dim=8, dtype=dtype, activation=activation)
    objective = problem.objective(problem.start(0), Window(), stream(0, "test"), 64, names)
    noise = {
        n: torch.randn(5, *t.shape, generator=stream(1, n), dtype=t.dtype) for n, t in objective.parameters.items()
    }
    scales = (1.0, 0.1, 0.01)
    found = objective.paired_losses(noise, scales)
    assert found.shape == (3, 2, 5)
    for row, scale in zip(found, scales, strict=True):
        for losses, sign in zip(row, (1.0, -1.0), strict=True):
            moved = {n: t + sign * scale * noise[n] for n, t in objective.parameters.items()}
            plain = [objective.loss({n: t[k] for n, t in moved.items()}) for k in range(5)]
            torch.testing.assert_close(losses, torch.stack(plain), rtol=rtol, atol=0)
            torch.testing.assert_close(losses, objective.losses(moved), rtol=rtol, atol=0)


def test_a_zero_network_rounds_to_plus_one():
    problem = TeacherStudent(dim=4, dtype="float64")
    start = {n: torch.zeros_like(t) if n.startswith("student.hidden") else t for n, t in problem.start(0).items()}
    objective = problem.objective(start, Window(), stream(0, "test"), 16)
    expected = (start["student.readout"].sum() - objective.targets).square().mean()
    assert float(objective.loss(objective.parameters)) == pytest.approx(float(expected), rel=1e-12)
    stacked = {n: t.unsqueeze(0) for n, t in objective.parameters.items()}
    assert float(objective.losses(stacked)[0]) == pytest.approx(float(expected), rel=1e-12)


def test_another_point_is_another_loss_on_the_same_batch():
    problem = TeacherStudent(dim=4, dtype="float64")
    objective = problem.objective(problem.start(0), Window(), stream(0, "test"), 32, ("hidden2",))
    moved = {"hidden2": objective.parameters["hidden2"] + 0.3}
    there = objective.at(moved)
    assert float(there.loss(there.parameters)) == float(objective.loss(moved))
    assert tuple(there.parameters) == ("hidden2",)


def test_pretraining_lowers_the_loss_and_leaves_the_teacher():
    raw = TeacherStudent(dim=8)
    trained = TeacherStudent(dim=8, start_from="pretrained", pretrain_batches=60, pretrain_batch_size=256)
    starts = [problem.start(0) for problem in (raw, trained)]
    objectives = [raw.objective(s, Window(), stream(9, "test"), 2048) for s in starts]
    before, after = (float(o.loss(o.parameters)) for o in objectives)
    assert after < 0.8 * before
    for name in starts[0]:
        assert torch.equal(starts[0][name], starts[1][name]) == name.startswith("teacher.")


def test_unit_variance_keeps_ternary_activations_alive():
    zeros = {}
    for gain in (1.0, 3**0.5):
        start = TeacherStudent(dim=64, gain=gain).start(0)
        signal = torch.randn(4096, 64, generator=stream(0, "inputs"))
        for number in (1, 2, 3):
            before = signal @ start[f"student.hidden{number}"].T
            signal = before.clamp(-1, 1).round()
        zeros[gain] = float((signal == 0).float().mean())
        if gain > 1:
            assert float(
                (torch.randn(4096, 64, generator=stream(1)) @ start["student.hidden1"].T).std()
            ) == pytest.approx(1.0, rel=0.05)
    assert zeros[1.0] > 0.9
    assert zeros[3**0.5] < 0.7
