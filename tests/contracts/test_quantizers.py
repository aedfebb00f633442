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
    check_scale_equivariance,
    check_ternary,
)
from checks.settings import all_variations, label

from lowbit import catalog
from lowbit.quantizers._base import Quantizer
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.ternary_absmean import TernaryAbsmean


@pytest.fixture(scope="module", params=all_variations("quantizers"), ids=label)
def quantizer(request) -> Quantizer:
    return catalog.build("quantizers", request.param)


def test_codes_are_few_integers_and_scales_positive(quantizer):
    check_codes(quantizer)


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
