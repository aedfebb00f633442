"""Momentum correction against the equations of Deep Gradient Compression."""

import math
from contextlib import nullcontext

import pytest
import torch

from lowbit.compressors import GradientCompressor, make
from lowbit.compressors.hggtopk import HGGTopK
from lowbit.compressors.topk import TopK
from lowbit.errors import NonFiniteError
from lowbit.feedback.momentum_correction import MomentumCorrection


def draw(seed: int) -> torch.Tensor:
    return torch.randn(60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("nesterov", [False, True])
def test_density_one_without_masking_is_sgd_with_momentum(nesterov):
    x = torch.nn.Parameter(torch.zeros(60, dtype=torch.float64))
    sgd = torch.optim.SGD([x], lr=1.0, momentum=0.9, nesterov=nesterov)
    rule = {"name": "momentum_correction", "momentum": 0.9, "masking": False, "nesterov": nesterov}
    session, ours = make("hggtopk", feedback=rule), torch.zeros(60, dtype=torch.float64)
    for step in range(6):
        x.grad = draw(step)
        sgd.step()
        ours -= session.send(draw(step), "w", 1.0).dense()
        torch.testing.assert_close(ours, x.detach(), rtol=1e-12, atol=1e-12)


def test_the_equations_step_by_step():
    session = make("topk", feedback={"name": "momentum_correction", "momentum": 0.7})
    u, v = torch.zeros(60, dtype=torch.float64), torch.zeros(60, dtype=torch.float64)
    for step in range(8):
        u = 0.7 * u + draw(step)
        v = v + u
        largest = v.abs().topk(6).indices
        expected = torch.zeros_like(v).index_put((largest,), v[largest])
        torch.testing.assert_close(session.send(draw(step), "w", 0.1).dense(), expected)
        u[largest] = v[largest] = 0


@pytest.mark.parametrize("policy", ["raise", "skip", "late"])
@pytest.mark.parametrize("compressor", [HGGTopK(), TopK()], ids=["hggtopk", "topk"])
def test_a_velocity_that_overflows_the_sum_changes_nothing(compressor, policy):
    session = GradientCompressor(compressor, MomentumCorrection(momentum=0.9), nonfinite=policy)
    session.send(torch.full((50,), 1.2e38), "w", 0.1)
    kept = {n: t.clone() for n, t in session.memory.entries["w"].buffers.items()}
    with nullcontext() if policy == "skip" else pytest.raises(NonFiniteError):
        session.send(torch.full((50,), 2e38), "w", 0.1)  # velocity 3.1e38, residual 1.2e38
    for name, tensor in session.memory.entries["w"].buffers.items():
        assert torch.equal(tensor, kept[name]), name
    assert torch.isfinite(session.send(torch.zeros(50), "w", 0.1).values).all()


def test_without_masking_momentum_is_kept_where_entries_are_sent():
    sums = {}
    for masking in (False, True):
        rule = {"name": "momentum_correction", "masking": masking}
        session = make("topk", feedback=rule)
        indices = session.send(draw(0), "w", 0.1).indices
        sums[masking] = session.memory.entries["w"].buffers["velocity"][indices].abs().sum()
    assert sums[False] > 0 == sums[True]


@pytest.mark.parametrize(("clip", "workers"), [(1.0, 1), (1.0, 4), (1e9, 4), (0.0, 1)])
def test_a_gradient_is_clipped_to_its_share_of_the_norm(clip, workers):
    rule = MomentumCorrection(clip=clip, workers=workers)
    buffers = {name: torch.zeros(60, dtype=torch.float64) for name in rule.buffers}
    gradient = draw(0)
    allowed = clip / math.sqrt(workers) if clip else math.inf
    expected = gradient * min(1.0, allowed / float(gradient.norm()))
    torch.testing.assert_close(rule.increment(gradient, buffers), expected)


def test_what_is_sent_is_worth_as_much_as_dense_momentum_in_the_long_run():
    """Without masking, sent and kept together are the sum of all momenta."""
    rule = {"name": "momentum_correction", "masking": False}
    session, u, total, sent = make("hggtopk", feedback=rule), 0.0, 0.0, 0.0
    for step in range(30):
        u = 0.9 * u + draw(step)
        total = total + u
        sent = sent + session.send(draw(step), "w", 0.05).dense()
    torch.testing.assert_close(sent + session.memory.entries["w"].buffers["residual"], total)
