"""What low-bit layers owe: exact straight-through gradients, and the plain layer when quantization is off."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.layers.convert import ConversionRules, convert
from lowbit.quantizers._base import Quantizer
from lowbit.quantizers.none import NoQuantizer
from lowbit.surrogates.identity import Identity


def parts(weight: Quantizer, activation: Quantizer | None = None) -> dict:
    """The settings that both layers take."""
    return {
        "weight_quantizer": weight,
        "activation_quantizer": activation or NoQuantizer(),
        "surrogate": Identity(),
    }


def rules(weight: Quantizer, activation: Quantizer | None = None, **settings) -> ConversionRules:
    """Conversion rules with the straight-through surrogate."""
    return ConversionRules(weight=weight, activation=activation or NoQuantizer(), surrogate=Identity(), **settings)


def layer_pair(kind: str, **settings) -> tuple[nn.Module, nn.Module, Tensor]:
    """A low-bit layer, the plain one with the same parameters, and an input; in float64."""
    torch.manual_seed(0)
    if kind == "linear":
        low_bit, plain, x = BitLinear(6, 5, norm=False, **settings), nn.Linear(6, 5), torch.randn(3, 4, 6)
    else:
        shape = {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}
        low_bit, plain, x = BitConv2d(4, 6, **shape, **settings), nn.Conv2d(4, 6, **shape), torch.randn(3, 4, 7, 8)
    plain.load_state_dict(low_bit.state_dict())
    return low_bit.double(), plain.double(), x.double()


def apply(plain: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """The plain layer's function with a weight of choice."""
    if isinstance(plain, nn.Linear):
        return F.linear(x, weight, plain.bias)
    return F.conv2d(x, weight, plain.bias, plain.stride, plain.padding, plain.dilation, plain.groups)


def check_straight_through(kind: str, weight: Quantizer, activation: Quantizer) -> None:
    """Output, dL/dW and dL/dx are bit for bit those of the plain layer at W_hat and x_hat, taken as constants."""
    low_bit, plain, x = layer_pair(kind, **parts(weight, activation))
    x.requires_grad_()
    kept = tuple(range(x.ndim - 1)) if kind == "linear" else (0,)
    x_hat = activation.quantize(x.detach(), kept).dequantize().requires_grad_()
    w_hat = weight.quantize(low_bit.weight.detach(), (0,)).dequantize().requires_grad_()
    actual, expected = low_bit(x), apply(plain, x_hat, w_hat)
    assert torch.equal(actual, expected)
    upstream = torch.randn_like(actual)
    inputs = (low_bit.weight, x, low_bit.bias)
    of_weight, of_input, of_bias = torch.autograd.grad(actual, inputs, upstream)
    weight_hat, input_hat, bias_hat = torch.autograd.grad(expected, (w_hat, x_hat, plain.bias), upstream)
    assert torch.equal(of_weight, weight_hat)
    assert torch.equal(of_input, input_hat)
    assert torch.equal(of_bias, bias_hat)
    assert torch.equal(low_bit.quantized_weight().dequantize(), w_hat)


def check_blend_zero_is_full_precision(kind: str, weight: Quantizer, activation: Quantizer) -> None:
    """With lambda 0 the layer is the plain layer, bit for bit, in both directions."""
    low_bit, plain, x = layer_pair(kind, **parts(weight, activation))
    low_bit.blend = 0.0
    assert torch.equal(low_bit(x), plain(x))
    low_bit(x).square().sum().backward()
    plain(x).square().sum().backward()
    for ours, theirs in zip(low_bit.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def check_converted(model: nn.Module, conversion: ConversionRules) -> list:
    """Convert, and hold the table against the model: every row is true, and every layer has one."""
    before = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)}
    kinds = {n: type(m).__name__ for n, m in before.items()}
    weights = {n: m.weight for n, m in before.items()}
    biases = {n: getattr(m, "bias", None) for n, m in before.items()}
    table = convert(model, conversion)
    rows = {r.name: r for r in table if r.name in before}
    assert list(rows) == list(before)
    for name, row in rows.items():
        layer = model.get_submodule(name)
        assert row.kind == kinds[name]
        assert row.parameters == weights[name].numel()
        assert layer.weight is weights[name], f"{name}: another weight"
        assert getattr(layer, "bias", None) is biases[name], f"{name}: another bias"
        assert row.converted == isinstance(layer, BitLinear | BitConv2d)
        assert row.bits == (layer.weight_quantizer.bits if row.converted else 8 * layer.weight.element_size())
        assert row.converted or row.reason, f"{name}: left without a reason"
    for row in table[len(rows) :]:
        assert isinstance(model.get_submodule(row.name), nn.Identity), f"{row.name}: not absorbed"
    return table
