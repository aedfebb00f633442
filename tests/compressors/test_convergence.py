"""Descent with compressed gradients: with a residual it reaches the dense minimum, without one it does not."""

import pytest
import torch

from lowbit.compressors import make

STEPS = 500


def quadratic():
    """Two workers' quadratics whose gradients are large and opposite where the sum is flat: x, loss, gradients."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(2, 100, generator=generator, dtype=torch.float64)
    targets[:, :10] = torch.tensor([[6.0], [-6.0]])  # 10 coordinates on which the workers quarrel

    def loss(x):
        return float(0.5 * (x - targets).square().mean(0).sum())

    return torch.zeros(100, dtype=torch.float64), loss, [lambda x, t=t: x - t for t in targets]


def logistic():
    """Logistic regression on two workers' halves of separable data, with the same quarrel added to both."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2, 200, 60, generator=generator, dtype=torch.float64)
    signs = (inputs @ torch.randn(60, generator=generator, dtype=torch.float64)).sign()
    quarrel = torch.zeros(60, dtype=torch.float64)
    quarrel[:6] = 2.0

    def loss(w):
        terms = torch.nn.functional.softplus(-signs * (inputs @ w))
        return float(terms.mean() + 0.005 * w.square().sum())

    def gradient(w, which):
        slope = -torch.sigmoid(-signs[which] * (inputs[which] @ w)) * signs[which]
        return (slope[:, None] * inputs[which]).mean(0) + 0.01 * w + (quarrel if which else -quarrel)

    return torch.zeros(60, dtype=torch.float64), loss, [lambda w: gradient(w, 0), lambda w: gradient(w, 1)]


def reached(problem, name: str, density: float, **parts) -> tuple[float, float]:
    """Losses above the minimum: at the start, and after descent of two workers that compress on their own."""
    start, loss, gradients = problem
    dense = start.clone()
    for _ in range(STEPS):
        dense -= 0.5 * sum(g(dense) for g in gradients) / 2
    x, sessions = start.clone(), [make(name, **parts) for _ in gradients]
    for step in range(STEPS):
        rate = 0.2 / (1 + 0.01 * step)
        sent = [s.send(g(x), "x", density).dense() for s, g in zip(sessions, gradients, strict=True)]
        x = x - rate * sum(sent) / 2
    return loss(start) - loss(dense), loss(x) - loss(dense)


@pytest.mark.parametrize("problem", [quadratic, logistic])
@pytest.mark.parametrize("name", ["topk", "hggtopk", "randomkec", "gaussian"])
def test_with_a_residual_the_minimum_is_reached(problem, name):
    at_start, left = reached(problem(), name, 0.1)
    assert left < 0.03 * at_start, (left, at_start)


@pytest.mark.parametrize("problem", [quadratic, logistic])
def test_without_one_it_is_not(problem):
    at_start, left = reached(problem(), "topk2", 0.1)
    assert left > 0.3 * at_start, (left, at_start)
