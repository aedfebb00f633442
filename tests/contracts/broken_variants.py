"""Softmaxes and quantizers that are wrong in ways that have been seen: each must fail its contract."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F

from lowbit.quantizers._base import Quantized
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.quantizers.uniform import Uniform
from lowbit.softmaxes.base2 import Base2
from lowbit.softmaxes.base_e import BaseE
from lowbit.variant import LN2, variant


class LossStaysNatural(Base2):
    """Base 2 in attention, base e in the loss."""

    def cross_entropy(self, logits, target, **settings):
        return F.cross_entropy(logits.float() if logits.element_size() < 4 else logits, target, **settings)


class LossInBits(Base2):
    """Reports bits where nats are promised."""

    def cross_entropy(self, logits, target, **settings):
        return super().cross_entropy(logits, target, **settings) / LN2


class AttentionStaysNatural(Base2):
    """A loss-only base 2: fused attention never sees the softmax."""

    def attention(self, query, key, value, *, mask=None, causal=False):
        return BaseE().attention(query, key, value, mask=mask, causal=causal)


class MaskOutsideTheScale(Base2):
    """Adds a real-valued mask after the scaling, as PyTorch does."""

    def attention(self, query, key, value, *, mask=None, causal=False):
        scale, grouped = self.scale / math.sqrt(query.shape[-1]), query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
        )


class ForgetsCausality(Base2):
    """Ignores the causal mask."""

    def attention(self, query, key, value, *, mask=None, causal=False):
        return super().attention(query, key, value, mask=mask)


class NoMaximumSubtracted(Base2):
    """2^z / sum 2^z as written: overflows."""

    def probabilities(self, logits, dim=-1):
        p = torch.exp2(logits)
        return p / p.sum(dim, keepdim=True)


class ScalesInHalfPrecision(Base2):
    """Rounds the scaled logits to the logits' dtype."""

    def log_probabilities(self, logits, dim=-1):
        return torch.log_softmax((logits * self.scale).float(), dim)


class GradientOfBaseE(Base2):
    """The right forward with the derivative of another base."""

    def probabilities(self, logits, dim=-1):
        wrong = BaseE().probabilities(logits, dim)
        return wrong + (super().probabilities(logits, dim) - wrong).detach()


class OneUlpOff(Base2):
    """The same number by another route."""

    @property
    def scale(self):
        return math.nextafter(LN2, 1.0)


class ThirdOfGamma(TernaryAbsmean):
    """Threshold gamma / 3 instead of gamma / 2: 21% zeros."""

    def quantize(self, x, kept=()):
        gamma = super().quantize(x, kept).scale
        return Quantized(torch.where(x.abs() > gamma / 3, x.sign(), 0.0), gamma)


class HalvesAwayFromZero(TernaryAbsmean):
    """Rounds half of gamma up."""

    def quantize(self, x, kept=()):
        gamma = super().quantize(x, kept).scale
        return Quantized(torch.where(x.abs() >= gamma / 2, x.sign(), 0.0), gamma)


class Unclamped(TernaryAbsmean):
    """Divides zeros by zero."""

    def quantize(self, x, kept=()):
        gamma = x.abs().mean().reshape([1] * x.ndim)
        return Quantized((x / gamma).round().clamp(-1, 1), gamma)


class InverseScale(TernaryAbsmean):
    """Hands out 1 / gamma as the scale, as a published formula does."""

    def quantize(self, x, kept=()):
        q = super().quantize(x, kept)
        return Quantized(q.codes, 1 / q.scale)


class ScaleCarriesGradient(TernaryAbsmean):
    """Straight-through on the code, times a scale that is not detached."""

    def fake_quantize(self, x, surrogate, kept=(), blend=1.0):
        gamma = x.abs().mean().clamp(min=1e-5)
        u = x / gamma.detach()
        return (u + (self.quantize(x.detach(), kept).codes - u).detach()) * gamma


class GradientTimesGamma(TernaryAbsmean):
    """Straight-through on the unscaled code: the gradient is multiplied by gamma."""

    def fake_quantize(self, x, surrogate, kept=(), blend=1.0):
        q = self.quantize(x.detach(), kept)
        return (x + (q.codes - x).detach()) * q.scale if blend else x


class BlendForgotten(TernaryAbsmean):
    """Fully quantized from the first step."""

    def fake_quantize(self, x, surrogate, kept=(), blend=1.0):
        return super().fake_quantize(x, surrogate, kept)


class RoundsInPlace(Int8Absmax):
    """Overwrites the tensor that it quantizes."""

    def quantize(self, x, kept=()):
        q = super().quantize(x, kept)
        x.copy_(q.dequantize())
        return q


class AlongTheWrongDimension(TernaryAbsmean):
    """Scales per input feature instead of per output channel."""

    def quantize(self, x, kept=()):
        return super().quantize(x, tuple(-1 if d == 0 else 0 for d in kept))


class MaximumIs128(Int8Absmax):
    """Uses the whole range of int8, which is not symmetric."""

    def quantize(self, x, kept=()):
        scale = super().quantize(x, kept).scale * 127 / 128
        return Quantized((x / scale).round().clamp(-128, 127), scale)


class TokensShareAScale(Int8Absmax):
    """One scale for all tokens."""

    def quantize(self, x, kept=()):
        return super().quantize(x)


class NarrowArithmetic(Int8Absmax):
    """Computes in the input's dtype: bfloat16 misses 127, float16 turns a row of zeros into NaN."""

    def quantize(self, x, kept=()):
        absmax = x.abs().amax([d for d in range(x.ndim) if d not in kept], keepdim=True).clamp(min=1e-5)
        return Quantized((x * (127.0 / absmax)).round().clamp(-128, 127), absmax / 127.0)


class SignOfZeroIsZero(BinarySign):
    """torch.sign: a third level that a bit has no room for."""

    def quantize(self, x, kept=()):
        return Quantized(x.sign(), super().quantize(x, kept).scale)


@variant
class WrongSuper(BinarySign):
    """Calls the initialiser of a class that it does not descend from."""

    def __post_init__(self):
        super(TernaryAbsmean, self).__init__()


@variant
class FalseIsDefault(BinarySign):
    """`setting or default`: what is false cannot be asked for."""

    def __post_init__(self):
        object.__setattr__(self, "scaled", self.scaled or True)


class Heaviside(Uniform):
    """Named a step from 0 to 1, and gives -1 and 1."""

    @property
    def values(self):
        return (0.0, 1.0)


class LeftAsItIs(BinarySign):
    """A method that nobody wrote: what comes in goes out."""

    def quantize(self, x, kept=()):
        return Quantized(x.clone(), x.new_ones(()))


class WeightsFromZeroToOne(Uniform):
    """DoReFa's rounding of activations on weights: all that are negative become 0."""

    def quantize(self, x, kept=()):
        steps = self.levels - 1
        return Quantized((x.clamp(0, 1) * steps).round(), x.new_tensor(1 / steps))


class Misread(TernaryAbsmean):
    """Says 1 bit and has three levels."""

    bits: ClassVar[float] = 1.0
