"""Zero fraction and flip rate of ternary weights."""

import pytest
import torch
from small_runs import follow, small_spec

from lowbit.layers.convert import bit_layers
from lowbit.train.assemble import assemble
from lowbit.train.ternary_dynamics import TernaryDynamics


def hand_made(images) -> tuple[torch.nn.Module, TernaryDynamics]:
    """A ViT whose four ternary layers have known codes: a quarter zeros, the rest +1."""
    model = assemble(small_spec("vit"), images).state.model
    for layer in bit_layers(model).values():
        with torch.no_grad():
            layer.weight.fill_(1.0).view(-1)[::4] = 0.0
    return model, TernaryDynamics(model)


def test_fractions_of_known_codes(images):
    model, dynamics = hand_made(images)
    assert dynamics.measure(0) == {"zero_fraction": 0.25}
    total = sum(layer.weight.numel() for layer in bit_layers(model).values())
    weight = bit_layers(model)["blocks.0.expand"].weight
    with torch.no_grad():
        weight.view(-1)[0] = 1.0  # 0 to 1: one zero less
        weight.view(-1)[1] = -1.0  # 1 to -1: counts once, though it is two codes away
        weight.view(-1)[2] = 1.3  # the same code
    assert dynamics.measure(4) == {"zero_fraction": 0.25 - 1 / total, "flip_rate": 2 / total / 4}
    assert dynamics.measure(5)["flip_rate"] == 0.0


def test_measuring_twice_at_one_step_has_no_rate(images):
    _, dynamics = hand_made(images)
    dynamics.measure(3)
    assert dynamics.measure(3) == {"zero_fraction": 0.25}


def test_network_without_low_bit_weights_has_no_dynamics(images):
    spec = small_spec("vit", quantization={"weight": {"name": "none"}})
    followed = follow(spec, images)
    assert not any("zero_fraction" in record or "flip_rate" in record for record in followed.records)
    eight_bits = small_spec("vit", quantization={"weight": {"name": "int8_absmax"}})
    assert assemble(eight_bits, images).state.dynamics.measure(1) == {}


@pytest.mark.parametrize(("log_every", "steps"), [(1, [3, 6, 9, 12]), (2, [4, 8, 12]), (100, [6, 12])])
def test_measured_every_so_often_and_at_the_end(log_every, steps, images):
    spec = small_spec("vit", record={"log_every": log_every, "ternary_every_steps": 3})
    records = follow(spec, images).records
    assert [record["step"] for record in records if "zero_fraction" in record] == steps
    rates = [record["flip_rate"] for record in records if "flip_rate" in record]
    assert len(rates) == len(steps) - 1
    assert all(0 < rate < 0.2 for rate in rates)


def test_gaussian_weights_have_31_percent_zeros(images):
    """P(|w| < E|w| / 2) = 0.3100 for a Gaussian."""
    model, dynamics = hand_made(images)
    rng = torch.Generator().manual_seed(0)
    for layer in bit_layers(model).values():
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng))
    assert dynamics.measure(0)["zero_fraction"] == pytest.approx(0.31, abs=0.03)
