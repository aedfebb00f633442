"""BitLinear and BitConv2d against nn.Linear and nn.Conv2d, forward and backward; `ratio` is low-bit / plain.

Low-bit training computes what plain training does and the quantization on top: it saves memory and energy at inference,
not time in training. The ratio says what it costs here. A BitLinear with its norm replaces a norm and a linear layer,
and is measured against the two.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.surrogates.identity import Identity

LINEAR = ((1024, 256, 256), (1024, 768, 768), (4096, 768, 3072))  # tokens, inputs, outputs
CONV = ((64, 16, 32), (64, 64, 16), (64, 128, 8))  # images, channels, side
RECIPES = {"W1.58A8": Int8Absmax(), "W1.58A32": NoQuantizer()}


def cases(quick: bool) -> Iterator[Row]:
    """Measure every case.

    Args:
        quick: only the smallest sizes, and fewer rounds.

    Raises:
        WrongResultError: when a layer with quantization blended out differs from the plain one.
    """
    rounds = 5 if quick else 15
    for recipe, activation in RECIPES.items():
        parts = {"weight_quantizer": TernaryAbsmean(), "activation_quantizer": activation, "surrogate": Identity()}
        for tokens, inputs, outputs in LINEAR[:1] if quick else LINEAR:
            x = torch.randn(tokens, inputs)
            plain, low_bit = nn.Linear(inputs, outputs), BitLinear(inputs, outputs, norm=False, **parts)
            with_norm = BitLinear(inputs, outputs, **parts)
            yield from _compare(f"BitLinear {recipe} {tokens}x{inputs}x{outputs}", low_bit, plain, x, rounds)
            normed = nn.Sequential(nn.RMSNorm(inputs, eps=with_norm.norm.eps), plain)
            case = f"BitLinear with norm {recipe} {tokens}x{inputs}x{outputs}"
            yield from _compare(case, with_norm, normed, x, rounds)
        for images, channels, side in CONV[:1] if quick else CONV:
            x = torch.randn(images, channels, side, side).contiguous(memory_format=torch.channels_last)
            shape = (channels, channels, 3, 1, 1)
            plain, low_bit = nn.Conv2d(*shape), BitConv2d(*shape, **parts)
            case = f"BitConv2d {recipe} {images}x{channels}x{side}x{side}"
            yield from _compare(case, low_bit, plain, x, rounds)


def _compare(case: str, low_bit: nn.Module, plain: nn.Module, x: Tensor, rounds: int) -> Iterator[Row]:
    linear = plain[-1] if isinstance(plain, nn.Sequential) else plain
    low_bit.load_state_dict(linear.state_dict(), strict=False)
    low_bit.blend = 0.0
    if not torch.equal(low_bit(x), plain(x)):
        raise WrongResultError(f"{case}: differs from the plain layer with quantization off; no speed is reported")
    low_bit.blend = 1.0
    contestants = {"low_bit": _forward_backward(low_bit, x), "plain": _forward_backward(plain, x)}
    seconds = seconds_side_by_side(contestants, rounds)
    yield from ratio_rows(case, seconds["low_bit"], seconds["plain"])


def _forward_backward(layer: nn.Module, x: Tensor):
    x = x.clone().requires_grad_()
    gradient = torch.randn_like(layer(x))

    def work() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(gradient)

    return work
