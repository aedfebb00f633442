"""Softmaxes on arbitrary input, against the native exp2, and where PyTorch's attention draws the line."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lowbit import catalog
from lowbit.softmaxes.base2 import Base2
from lowbit.softmaxes.base_b import BaseB
from lowbit.softmaxes.base_e import BaseE
from lowbit.variant import LN2, number

LOGITS = hnp.arrays("float64", hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.floats(-1e3, 1e3))
TEMPERATURES = st.one_of(st.floats(0.05, 20.0), st.sampled_from(["ln2", "1/ln2"]))
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


each_softmax = pytest.mark.parametrize("name", catalog.available("softmaxes"))


@each_softmax
@few
@given(array=LOGITS, temperature=TEMPERATURES, data=st.data())
def test_probabilities_are_a_distribution_that_keeps_the_order(name, array, temperature, data):
    softmax, z = catalog.build("softmaxes", {"name": name, "temperature": temperature}), torch.from_numpy(array)
    dim = data.draw(st.integers(-z.ndim, z.ndim - 1))
    p = softmax.probabilities(z, dim)
    assert p.shape == z.shape
    assert ((p >= 0) & (p <= 1)).all()
    torch.testing.assert_close(p.sum(dim), torch.ones_like(p.sum(dim)), rtol=0, atol=1e-12)
    assert (p.gather(dim, z.argsort(dim)).diff(dim=dim) >= -1e-15).all()
    torch.testing.assert_close(softmax.probabilities(z.flip(dim), dim).flip(dim), p, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(softmax.probabilities(z + 128.0, dim), p, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(softmax.log_probabilities(z, dim).exp(), p, rtol=1e-9, atol=1e-15)


@few
@given(array=LOGITS, base=st.floats(1.01, 50.0), temperature=st.floats(0.05, 20.0))
def test_every_base_is_base_e_at_another_temperature(array, base, temperature):
    z, spec = torch.from_numpy(array), BaseB(base=base, temperature=temperature)
    same = BaseE(temperature=spec.effective_temperature)
    torch.testing.assert_close(spec.probabilities(z), same.probabilities(z), rtol=1e-9, atol=1e-15)


@few
@given(array=LOGITS, temperature=TEMPERATURES)
def test_loss_in_bits_has_no_ln2_in_its_gradient(array, temperature):
    z = torch.from_numpy(array).reshape(-1, array.shape[-1]).requires_grad_()
    target = torch.arange(len(z)) % z.shape[1]
    softmax = Base2(temperature=temperature)
    bits = number("1/ln2") * softmax.cross_entropy(z, target, reduction="sum")
    t = number(temperature)
    exponent = (z - z.amax(-1, keepdim=True)).detach() / t
    logs2 = exponent - torch.exp2(exponent).sum(-1, keepdim=True).log2()
    torch.testing.assert_close(bits, -logs2.gather(1, target[:, None]).sum(), rtol=1e-10, atol=1e-10)
    expected = (torch.exp2(logs2) - F.one_hot(target, z.shape[1])) / t
    torch.testing.assert_close(torch.autograd.grad(bits, z)[0], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-15), (torch.float32, 5e-7), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)],
)
def test_natural_scale_agrees_with_the_native_exp2(dtype, tolerance):
    z = 4 * torch.randn(200, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    powers = torch.exp2(z - z.amax(-1, keepdim=True))
    native = powers / powers.sum(-1, keepdim=True)
    ours = Base2().probabilities(z)
    assert ours.dtype == dtype
    assert (ours - native).abs().max() <= tolerance


@each_softmax
def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes(name):
    softmax = catalog.build("softmaxes", {"name": name})
    for classes, nats, bits in ((10, 2.302585, 3.321928), (50257, 10.8249, 15.617)):
        loss = softmax.cross_entropy(torch.zeros(3, classes), torch.tensor([0, 1, classes - 1])).item()
        assert math.isclose(loss, nats, rel_tol=1e-5)
        assert math.isclose(loss / LN2, bits, rel_tol=1e-5)


def test_base_e_is_pytorch_bit_for_bit():
    softmax, z = BaseE(), torch.randn(6, 9)
    target = torch.arange(6)
    assert torch.equal(softmax.probabilities(z), torch.softmax(z, -1))
    assert torch.equal(softmax.cross_entropy(z, target), F.cross_entropy(z, target))
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.equal(softmax.attention(query, key, value, causal=True), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_attention_in_low_precision_stays_near_the_exact_one(dtype):
    query, key, value = torch.randn(3, 2, 4, 16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = Base2().probabilities(query.double() @ key.double().transpose(-1, -2) / math.sqrt(8))
    out = Base2().attention(query, key, value)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), weights @ value.double(), rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_attention_says_no_to_what_it_cannot_do():
    query, key = torch.randn(1, 4, 5, 8), torch.randn(1, 3, 5, 8)
    with pytest.raises(RuntimeError, match="heads"):
        Base2().attention(query, key, key)
    with pytest.raises(RuntimeError, match="is_causal"):
        Base2().attention(query, query, query, mask=torch.ones(5, 5, dtype=torch.bool), causal=True)


@each_softmax
def test_one_class_has_probability_one_and_no_loss(name):
    softmax, z = catalog.build("softmaxes", {"name": name}), torch.randn(4, 1)
    assert torch.equal(softmax.probabilities(z), torch.ones(4, 1))
    assert softmax.cross_entropy(z, torch.zeros(4, dtype=torch.long)).item() == 0.0
    assert softmax.probabilities(torch.empty(0, 5)).shape == (0, 5)


@each_softmax
def test_every_target_ignored_sums_to_zero(name):
    softmax = catalog.build("softmaxes", {"name": name})
    assert softmax.cross_entropy(torch.randn(3, 4), torch.full((3,), -100), reduction="sum").item() == 0.0
