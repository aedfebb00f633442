"""Quantizers on arbitrary input: what a code means, how far it is off, and what extreme input does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lowbit import catalog
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.surrogates.identity import Identity

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
TENSORS = hnp.arrays("float64", SHAPES, elements=st.floats(-1e6, 1e6)).map(torch.from_numpy)
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@few
@given(TENSORS)
def test_ternary_code_is_zero_up_to_half_of_gamma(x):
    q = TernaryAbsmean().quantize(x)
    gamma = max(x.abs().mean().item(), 1e-5)
    assert math.isclose(q.scale.item(), gamma, rel_tol=1e-12)
    ratio = x.abs() / gamma
    assume(((ratio - 0.5).abs() > 1e-12).all())
    assert torch.equal(q.codes, torch.where(ratio > 0.5, x.sign(), 0.0))


@few
@given(TENSORS, st.sampled_from([TernaryAbsmean(statistic="median"), TernaryAbsmean(granularity="channel")]))
def test_ternary_statistics_are_those_of_numpy(x, quantizer):
    x = x.reshape(len(x), -1)
    lower = {"median": lambda row: np.sort(row)[(len(row) - 1) // 2], "mean": np.mean}[quantizer.statistic]
    rows = x.abs().numpy() if quantizer.granularity == "channel" else x.abs().reshape(1, -1).numpy()
    expected = np.maximum([lower(row) for row in rows], 1e-5)
    np.testing.assert_allclose(quantizer.quantize(x, (0,)).scale.flatten(), expected, rtol=1e-12)


@few
@given(TENSORS)
def test_int8_is_never_off_by_more_than_half_a_step(x):
    x = x.reshape(len(x), -1)
    q = Int8Absmax().quantize(x, (0,))
    assert ((q.dequantize() - x).abs() <= 0.5 * q.scale * (1 + 1e-12)).all()
    assert torch.equal(Int8Absmax().quantize(-x, (0,)).codes, -q.codes)
    assert (q.codes.abs().amax(1) == 127)[x.abs().amax(1) >= 1e-5].all()


@few
@given(TENSORS)
def test_binary_keeps_every_sign_and_the_mean_magnitude(x):
    q = BinarySign().quantize(x)
    assert torch.equal(q.codes, torch.where(x >= 0, 1.0, -1.0).double())
    assert math.isclose(q.scale.item(), max(x.abs().mean().item(), 1e-5), rel_tol=1e-12)


@few
@given(TENSORS, st.sampled_from(["ternary_absmean", "int8_absmax", "binary_sign", "none"]), st.floats(0, 1))
def test_blend_lies_between_the_tensor_and_its_quantization(x, name, blend):
    quantizer = catalog.build("quantizers", {"name": name})
    blended = quantizer.fake_quantize(x, Identity(), (), blend)
    expected = x + blend * (quantizer.quantize(x).dequantize() - x)
    torch.testing.assert_close(blended, expected, rtol=1e-9, atol=1e-9)


def test_blend_zero_is_the_tensor_itself():
    x = torch.randn(3, 4)
    for name in catalog.available("quantizers"):
        assert catalog.build("quantizers", {"name": name}).fake_quantize(x, Identity(), (), 0.0) is x


@pytest.mark.parametrize("name", catalog.available("quantizers"))
def test_a_nan_is_not_hidden(name):
    quantizer = catalog.build("quantizers", {"name": name})
    assert quantizer.quantize(torch.tensor([1.0, float("nan"), -2.0])).dequantize()[1].isnan()


@pytest.mark.parametrize("name", ["ternary_absmean", "int8_absmax", "binary_sign"])
def test_a_scale_for_every_single_entry_is_refused(name):
    settings_of_name = {} if name == "int8_absmax" else {"granularity": "channel"}
    with pytest.raises(ValueError, match="all dimensions"):
        catalog.build("quantizers", {"name": name, **settings_of_name}).quantize(torch.randn(3), (0,))


def test_centred_binary_is_the_sign_about_the_mean():
    x = torch.tensor([[1.0, 2.0, 6.0], [-1.0, -1.0, -4.0]])
    assert BinarySign(centred=True).quantize(x).codes.tolist() == [[1, 1, 1], [-1, -1, -1]]
    by_channel = BinarySign(centred=True, granularity="channel").quantize(x, (0,))
    assert by_channel.codes.tolist() == [[-1, -1, 1], [1, 1, -1]]
    assert by_channel.scale.tolist() == [[3.0], [2.0]]


def test_ternary_scale_of_tiny_weights_is_clamped():
    q = TernaryAbsmean().quantize(torch.tensor([1e-7, -4e-6, 6e-6, -1.0e-5], dtype=torch.float64))
    assert q.scale.item() == 1e-5
    assert q.codes.tolist() == [0, 0, 1, -1]


def test_int8_of_an_image_batch_has_a_scale_per_image():
    x = torch.randn(3, 2, 4, 4) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1, 1)
    q = Int8Absmax().quantize(x, (0,))
    assert q.scale.shape == (3, 1, 1, 1)
    assert (q.codes.abs().amax((1, 2, 3)) == 127).all()
    assert Int8Absmax(granularity="tensor").quantize(x, (0,)).scale.numel() == 1


def test_no_quantizer_returns_the_very_tensor():
    x = torch.randn(3, requires_grad=True)
    assert NoQuantizer().fake_quantize(x, Identity(), (), 0.3) is x
    assert NoQuantizer().quantize(x).dequantize().equal(x)


def test_bits_are_the_information_of_a_code():
    named = {name: catalog.build("quantizers", {"name": name}).bits for name in catalog.available("quantizers")}
    assert named["ternary_absmean"] == math.log2(3)
    assert (named["binary_sign"], named["int8_absmax"], named["none"]) == (1.0, 8.0, 32.0)
