"""What every quantizer owes, for every variant under every setting."""

import pytest
import torch
from checks.quantizers import (
    check_binary,
    check_codes,
    check_codes_are_idempotent,
    check_each_kept_entry_is_alone,
    check_fake_quantize,
    check_int8,
    check_named_levels,
    check_scale_equivariance,
    check_ternary,
)
from checks.settings import all_variations, label

from lowbit import catalog
from lowbit.layers.bit_linear import BitLinear
from lowbit.quantizers._base import Quantizer
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates.identity import Identity


@pytest.fixture(params=all_variations("quantizers"), ids=label)
def quantizer(request, draws_of_one_half) -> Quantizer:
    return catalog.build("quantizers", request.param)


def test_codes_are_few_integers_and_scales_positive(quantizer):
    check_codes(quantizer)


def test_levels_are_those_that_are_named(quantizer):
    check_named_levels(quantizer)


def test_kept_entries_do_not_see_each_other(quantizer):
    check_each_kept_entry_is_alone(quantizer)


def test_quantizing_twice_changes_no_code(quantizer):
    check_codes_are_idempotent(quantizer)


def test_fake_quantize_is_exact_in_both_directions(quantizer):
    check_fake_quantize(quantizer)


def test_scaling_the_input_scales_the_output(quantizer):
    if getattr(quantizer, "scaled", True):
        check_scale_equivariance(quantizer)
    else:
        x = torch.tensor([0.5, -2.0])
        assert torch.equal(quantizer.quantize(3 * x).dequantize(), quantizer.quantize(x).dequantize())


def test_ternary_follows_the_worked_example():
    check_ternary(TernaryAbsmean())


def test_int8_maps_the_largest_magnitude_of_a_token_to_127():
    check_int8(Int8Absmax())


STOCHASTIC = [s for s in all_variations("quantizers") if s.get("rounding") == "stochastic"]


@pytest.mark.parametrize("settings", STOCHASTIC, ids=label)
def test_stochastic_rounding_is_unbiased_and_evaluation_is_not_random(settings):
    quantizer = catalog.build("quantizers", settings)
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    torch.manual_seed(0)
    draws = torch.stack([quantizer.quantize(x).dequantize() for _ in range(4000)])
    nearest = quantizer.when(training=False)
    assert quantizer.when(training=True) is quantizer
    assert torch.equal(nearest.quantize(x).codes, nearest.quantize(x).codes)
    step = nearest.quantize(x).dequantize().unique().diff().min()
    assert (draws - x).abs().max() < step, "not one of the two neighbours"
    # A step's rounding has a standard deviation of half a step at most: five of them over 4,000 draws.
    assert (draws.mean(0) - x).abs().max() < 5 * 0.5 * step / 4000**0.5
    assert len(draws[:, 13].unique()) == 2, "nothing is drawn"
    torch.manual_seed(0)
    assert torch.equal(quantizer.quantize(x).dequantize(), draws[0])


def test_layers_round_at_random_in_training_only():
    rough = Uniform(levels=2, rounding="stochastic")
    layer = BitLinear(
        8, 4, weight_quantizer=TernaryAbsmean(), activation_quantizer=rough, surrogate=Identity(), norm=False
    )
    x = 0.1 * torch.randn(16, 8)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_binary_has_no_zero():
    for scaled in (False, True):
        check_binary(BinarySign(scaled=scaled))


@pytest.mark.gpu
def test_cuda_accepts_every_one_when_results_must_be_reproducible():
    x = torch.randn(6, 9)
    torch.use_deterministic_algorithms(True)
    try:
        for settings in all_variations("quantizers"):
            quantizer = catalog.build("quantizers", settings)
            on_gpu = quantizer.quantize(x.cuda(), (0,)).dequantize()
            torch.testing.assert_close(on_gpu.cpu(), quantizer.quantize(x, (0,)).dequantize())
    finally:
        torch.use_deterministic_algorithms(False)
