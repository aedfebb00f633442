"""BitLinear and BitConv2d: exact straight-through gradients, convolution as matrix product, precision in autocast."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "contracts"))
from checks.layers import check_blend_zero_is_full_precision, check_straight_through, parts
from checks.settings import all_variations, label

from lowbit import catalog
from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean

QUANTIZERS = {label(s): catalog.build("quantizers", s) for s in all_variations("quantizers")}
each_weight_quantizer = pytest.mark.parametrize("weight", QUANTIZERS.values(), ids=QUANTIZERS)
each_activation = pytest.mark.parametrize("activation", [NoQuantizer(), Int8Absmax()], ids=["A32", "A8"])
each_kind = pytest.mark.parametrize("kind", ["linear", "conv2d"])
PER_CHANNEL = TernaryAbsmean(granularity="channel")


@pytest.mark.usefixtures("draws_of_one_half")
@each_kind
@each_weight_quantizer
@each_activation
def test_gradients_pass_straight_through(kind, weight, activation):
    check_straight_through(kind, weight, activation)


@each_kind
@each_weight_quantizer
@each_activation
def test_blend_zero_is_the_plain_layer(kind, weight, activation):
    check_blend_zero_is_full_precision(kind, weight, activation)


@each_kind
def test_without_quantizers_the_layer_is_the_plain_layer(kind):
    check_straight_through(kind, NoQuantizer(), NoQuantizer())
    check_blend_zero_is_full_precision(kind, NoQuantizer(), NoQuantizer())


@pytest.mark.parametrize("weight", [TernaryAbsmean(), PER_CHANNEL], ids=["tensor", "channel"])
@pytest.mark.parametrize("shape", [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), ((2, 1), (1, 0), 1, 1), (2, 1, 1, 2)])
def test_convolution_is_a_bit_linear_over_patches(weight, shape):
    stride, padding, dilation, groups = shape
    form = {"kernel_size": (3, 2), "stride": stride, "padding": padding, "dilation": dilation}
    torch.manual_seed(0)
    conv = BitConv2d(4, 6, groups=groups, **form, **parts(weight)).double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    columns = F.unfold(x, **form).transpose(1, 2)  # (N, places, 4 * 3 * 2)
    out = []
    for group, part in enumerate(columns.chunk(groups, -1)):
        linear = BitLinear(part.shape[-1], 6 // groups, norm=False, **parts(NoQuantizer())).double()
        rows = slice(group * 6 // groups, (group + 1) * 6 // groups)
        with torch.no_grad():
            linear.weight.copy_(conv.quantized_weight().dequantize()[rows].flatten(1))
            linear.bias.copy_(conv.bias[rows])
        out.append(linear(part).transpose(1, 2))
    actual = conv(x)
    torch.testing.assert_close(actual, torch.cat(out, 1).view_as(actual), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight", [TernaryAbsmean(), PER_CHANNEL], ids=["tensor", "channel"])
def test_pointwise_convolution_has_the_codes_and_scales_of_bit_linear(weight):
    torch.manual_seed(0)
    conv = BitConv2d(4, 6, 1, **parts(weight, Int8Absmax())).double()
    linear = BitLinear(4, 6, norm=False, **parts(weight, Int8Absmax())).double()
    linear.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(conv(x[:, :, None, None])[..., 0, 0], linear(x), rtol=1e-13, atol=1e-13)
    assert torch.equal(conv.quantized_weight().codes.flatten(1), linear.quantized_weight().codes)
    assert conv.quantized_weight().scale.numel() == (6 if weight is PER_CHANNEL else 1)
    assert torch.equal(conv.quantized_weight().scale.flatten(), linear.quantized_weight().scale.flatten())


def test_every_image_has_its_own_activation_scale():
    conv = BitConv2d(2, 3, 3, padding=1, **parts(TernaryAbsmean(), Int8Absmax())).double()
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64) * torch.tensor([1.0, 100.0, 1e-3]).double().view(3, 1, 1, 1)
    alone = torch.cat([conv(image.unsqueeze(0)) for image in x])
    torch.testing.assert_close(conv(x), alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.stack([conv(image) for image in x]), alone, rtol=1e-12, atol=1e-12)


def test_every_token_has_its_own_activation_scale():
    layer = BitLinear(6, 3, **parts(TernaryAbsmean(), Int8Absmax()), norm=False).double()
    x = torch.randn(2, 4, 6, dtype=torch.float64) * torch.logspace(-3, 3, 8).double().view(2, 4, 1)
    alone = torch.stack([layer(token) for token in x.flatten(0, 1)])
    torch.testing.assert_close(layer(x).flatten(0, 1), alone, rtol=1e-12, atol=1e-12)


def test_input_passes_an_rms_norm_whose_gain_learns():
    torch.manual_seed(0)
    layer = BitLinear(6, 32, **parts(TernaryAbsmean(), Int8Absmax())).double()
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2.0)
    x = torch.randn(4, 6, dtype=torch.float64)
    normalised = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.norm.weight
    x_hat = Int8Absmax().quantize(normalised, (0,)).dequantize()
    expected = F.linear(x_hat, layer.quantized_weight().dequantize(), layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(1000 * x), layer(x), rtol=1e-3, atol=1e-3)
    layer(x).square().sum().backward()
    assert (layer.norm.weight.grad != 0).all()


@each_kind
def test_scale_carries_no_gradient(kind):
    layer = BitLinear(6, 4, norm=False, **parts(TernaryAbsmean())) if kind == "linear" else None
    layer = (layer or BitConv2d(6, 4, 1, **parts(TernaryAbsmean()))).double()
    x = torch.randn(5, 6, *(() if kind == "linear" else (1, 1)), dtype=torch.float64)
    (with_scale,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    codes = layer.quantized_weight().codes
    gamma = layer.weight.abs().mean()
    flowing = (codes * gamma).flatten(1)  # what an implementation without detach would differentiate
    (through_gamma,) = torch.autograd.grad((x.flatten(1) @ flowing.T + layer.bias).square().sum(), layer.weight)
    assert through_gamma.abs().max() > 0
    what = layer.quantized_weight().dequantize().requires_grad_()
    y = x.flatten(1) @ what.flatten(1).T + layer.bias.detach()
    torch.testing.assert_close(with_scale, torch.autograd.grad(y.square().sum(), what)[0], rtol=1e-12, atol=1e-12)


@each_kind
def test_autocast_quantizes_in_float32_and_multiplies_in_bfloat16(kind):
    torch.manual_seed(0)
    settings = parts(TernaryAbsmean(), Int8Absmax())
    layer = BitLinear(16, 8, **settings) if kind == "linear" else BitConv2d(16, 8, 3, **settings)
    x = torch.randn(4, 16, *(() if kind == "linear" else (6, 6))).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert layer.weight.dtype == torch.float32
    assert out.dtype == torch.bfloat16
    normalised = layer.norm(x.float()) if kind == "linear" else x.float()
    x_hat = Int8Absmax().quantize(normalised, (0,)).dequantize().bfloat16()
    w_hat = layer.quantized_weight().dequantize()
    assert w_hat.dtype == torch.float32
    multiply = F.linear if kind == "linear" else F.conv2d
    assert torch.equal(out, multiply(x_hat, w_hat.bfloat16(), layer.bias.bfloat16()))
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_layers_stay_modules_of_their_kind():
    linear, conv = BitLinear(3, 2, bias=False, **parts(PER_CHANNEL)), BitConv2d(3, 2, 1, **parts(PER_CHANNEL))
    assert isinstance(linear, nn.Linear)
    assert isinstance(conv, nn.Conv2d)
    assert linear.bias is None
    assert set(linear.state_dict()) == {"weight", "norm.weight"}
    assert set(conv.state_dict()) == {"weight", "bias"}
    assert linear(torch.randn(3)).shape == (2,)
    assert linear(torch.randn(0, 3)).shape == (0, 2)
