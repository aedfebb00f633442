"""What every feedback owes."""

import torch
from torch import Tensor

from lowbit.feedback._base import Feedback


def draw(seed: int) -> Tensor:
    return torch.randn(50, generator=torch.Generator().manual_seed(seed))


def buffers_of(feedback: Feedback) -> dict[str, Tensor]:
    return {name: torch.zeros(50) for name in feedback.buffers}


def check_gradient_is_left_alone(feedback: Feedback) -> None:
    """Neither the gradient nor the residual changes; the increment is of its shape and finite."""
    buffers = buffers_of(feedback)
    if "residual" in buffers:
        buffers["residual"] += draw(7)
    for step in range(3):
        gradient, before = draw(step), {n: t.clone() for n, t in buffers.items()}
        increment = feedback.increment(gradient, buffers)
        assert torch.equal(gradient, draw(step)), "changes the gradient"
        assert increment.shape == gradient.shape
        assert increment.isfinite().all()
        assert "residual" not in buffers or torch.equal(buffers["residual"], before["residual"])
        feedback.sent(torch.tensor([3, 4]), buffers)
        assert "residual" not in buffers or torch.equal(buffers["residual"], before["residual"])


def check_parameters_do_not_meet(feedback: Feedback) -> None:
    """What it knows of one parameter lies in that parameter's buffers."""
    alone, first, second = (buffers_of(feedback) for _ in range(3))
    for step in range(3):
        expected = feedback.increment(draw(step), alone).clone()
        got = feedback.increment(draw(step), first).clone()
        feedback.increment(draw(10 + step), second)
        assert torch.equal(got, expected)
        for buffers in (alone, first, second):
            feedback.sent(torch.tensor([step]), buffers)


def check_zero_stays_zero(feedback: Feedback) -> None:
    """Zero gradients from the start change nothing."""
    buffers = buffers_of(feedback)
    assert not feedback.increment(torch.zeros(50), buffers).any()
    feedback.sent(None, buffers)
    assert not any(tensor.any() for tensor in buffers.values())


def check_density(feedback: Feedback) -> None:
    """A density in (0, 1] for every epoch, never below the target, and in the end the target."""
    for target in (1e-3, 0.05, 1.0):
        assert all(target <= feedback.density(target, epoch) <= 1 for epoch in range(8))
        assert feedback.density(target, 1000) == target
