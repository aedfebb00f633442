"""The contracts have teeth: every known-broken variant fails the check that is meant to catch it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import broken_compressors
import broken_models as bad_models
import broken_surrogates
import broken_variants as bad
import pytest
import torch
from checks import arms, form, layers, models, quantizers, softmaxes

from lowbit import catalog
from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.models.gpt import GPT
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.softmaxes.base2 import Base2
from lowbit.softmaxes.base_e import BaseE
from lowbit.variant import AboveOne, variant

GPT_BATCH = models.batch(GPT())


def of_softmax(check: Callable, broken: type[Base2], **settings) -> Callable:
    """A softmax check, asked about a broken base 2."""
    softmax = broken(**settings)
    return partial(check, softmax, *softmaxes.base_and_temperature(softmax, "base2"))


def same_run(broken: Base2) -> None:
    conversion = layers.rules(TernaryAbsmean(), Int8Absmax())
    arms.check_same_run(*(arms.train_gpt(s, conversion, torch.float64) for s in (BaseE(temperature="1/ln2"), broken)))


def wrong_factors() -> None:
    runs = [arms.train_attention_net(s, "sgd", TernaryAbsmean(), NoQuantizer()) for s in (BaseE(), Base2())]
    assert arms.difference(*runs) <= 1e-12


def layer(broken: type, check: Callable, *quantizers_of_layer) -> None:
    kind, replaced = ("conv2d", "BitConv2d") if issubclass(broken, BitConv2d) else ("linear", "BitLinear")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, replaced, broken)
        check(kind, *quantizers_of_layer)


EVERYTHING = layers.rules(TernaryAbsmean(), exclude=())
BROKEN = {
    "loss in base e": of_softmax(softmaxes.check_cross_entropy, bad.LossStaysNatural),
    "loss in base e: gradient": of_softmax(softmaxes.check_gradients, bad.LossStaysNatural),
    "loss in bits": of_softmax(softmaxes.check_cross_entropy, bad.LossInBits),
    "attention in base e": of_softmax(softmaxes.check_attention, bad.AttentionStaysNatural),
    "mask outside the scale": of_softmax(softmaxes.check_attention, bad.MaskOutsideTheScale),
    "no causality": of_softmax(softmaxes.check_attention, bad.ForgetsCausality),
    "no maximum subtracted": of_softmax(softmaxes.check_probabilities, bad.NoMaximumSubtracted),
    "scaled in half precision": of_softmax(softmaxes.check_low_precision, bad.ScalesInHalfPrecision),
    "gradient of base e": of_softmax(softmaxes.check_gradients, bad.GradientOfBaseE),
    "another temperature": partial(softmaxes.check_scale, Base2(temperature=2.0), 2.0, 1.0),
    "base e for base 2": partial(softmaxes.check_probabilities, BaseE(), 2.0, 1.0),
    "one ulp off": partial(same_run, bad.OneUlpOff()),
    "theorem without its factors": wrong_factors,
    "threshold gamma / 3": partial(quantizers.check_ternary, bad.ThirdOfGamma()),
    "halves away from zero": partial(quantizers.check_ternary, bad.HalvesAwayFromZero()),
    "median for mean": partial(quantizers.check_ternary, TernaryAbsmean(statistic="median")),
    "gamma not clamped": partial(quantizers.check_codes, bad.Unclamped()),
    "inverse scale": partial(quantizers.check_ternary, bad.InverseScale()),
    "inverse scale: equivariance": partial(quantizers.check_scale_equivariance, bad.InverseScale()),
    "scale carries gradient": partial(quantizers.check_fake_quantize, bad.ScaleCarriesGradient()),
    "gradient times gamma": partial(quantizers.check_fake_quantize, bad.GradientTimesGamma()),
    "blend forgotten": partial(quantizers.check_fake_quantize, bad.BlendForgotten()),
    "rounds in place": partial(quantizers.check_codes, bad.RoundsInPlace()),
    "wrong dimension": partial(
        quantizers.check_each_kept_entry_is_alone, bad.AlongTheWrongDimension(granularity="channel")
    ),
    "maximum is 128": partial(quantizers.check_codes, bad.MaximumIs128()),
    "maximum is 128: worked example": partial(quantizers.check_int8, bad.MaximumIs128()),
    "tokens share a scale": partial(quantizers.check_int8, bad.TokensShareAScale()),
    "int8 in narrow arithmetic": partial(quantizers.check_int8, bad.NarrowArithmetic()),
    "float16 zeros": partial(quantizers.check_codes, bad.NarrowArithmetic()),
    "sign of zero is zero": partial(quantizers.check_binary, bad.SignOfZeroIsZero()),
    "three levels in a bit": partial(quantizers.check_codes, bad.Misread()),
    "wrong super": partial(form.check_built, bad.WrongSuper, {}),
    "false is the default": partial(form.check_built, bad.FalseIsDefault, {"scaled": False}),
    "a Heaviside of -1 and 1": partial(quantizers.check_named_levels, bad.Heaviside()),
    "left as it is": partial(quantizers.check_codes, bad.LeftAsItIs()),
    "weights from 0 to 1": partial(quantizers.check_codes, bad.WeightsFromZeroToOne()),
    **broken_surrogates.CONTROLS,
    **broken_compressors.CONTROLS,
    "layer: scale carries gradient": partial(
        layers.check_straight_through, "linear", bad.ScaleCarriesGradient(), NoQuantizer()
    ),
    "layer: gradient times gamma": partial(
        layers.check_straight_through, "conv2d", bad.GradientTimesGamma(), NoQuantizer()
    ),
    "layer: blend forgotten": partial(
        layers.check_blend_zero_is_full_precision, "conv2d", bad.BlendForgotten(), NoQuantizer()
    ),
    "layer: tokens together": partial(
        layer, bad_models.TokensTogether, layers.check_straight_through, TernaryAbsmean(), Int8Absmax()
    ),
    "layer: input not quantized": partial(
        layer, bad_models.WeightsOnly, layers.check_straight_through, TernaryAbsmean(), Int8Absmax()
    ),
    "layer: input detached": partial(
        layer, bad_models.DetachedInput, layers.check_straight_through, TernaryAbsmean(), NoQuantizer()
    ),
    "layer: stride ignores the configuration": partial(
        layer, bad_models.StridedIsAlwaysBinary, layers.check_straight_through, NoQuantizer(), NoQuantizer()
    ),
    "conversion copies weights": lambda: layers.check_converted(bad_models.copies_instead_of_carrying(), EVERYTHING),
    "conversion claims too much": lambda: layers.check_converted(bad_models.claims_without_replacing(), EVERYTHING),
    "no residual": lambda: models.check_residual(
        bad_models.without_shortcuts(), bad_models.silence_resnet, torch.randn(2, 3, 8, 8)
    ),
    "not causal": lambda: models.check_causal(bad_models.not_causal(), GPT_BATCH[0], models.VOCABULARY),
    "amnesic": lambda: models.check_causal(bad_models.amnesic(), GPT_BATCH[0], models.VOCABULARY),
    "forgetful batch norm": lambda: models.check_running_statistics(bad_models.forgetful()),
    "dead parameter": lambda: models.check_gradient_flow(bad_models.with_a_dead_parameter(), *GPT_BATCH),
    "sees the batch": lambda: models.check_samples_are_independent(bad_models.SeesTheBatch(), torch.randn(4, 3)),
    "own softmax": lambda: models.check_softmax_reaches_attention(bad_models.OwnSoftmax(), Base2()),
    "start depends on softmax": lambda: models.check_shape_and_start(bad_models.StartDependsOnSoftmax()),
    "cannot learn": lambda: models.check_learns(bad_models.blind(), *GPT_BATCH, steps=100, lr=1e-2, goal=0.02),
}


@pytest.mark.parametrize("control", BROKEN.values(), ids=BROKEN)
def test_a_broken_variant_is_caught(control):
    with pytest.raises(AssertionError):
        control()


@variant
class Undescribed:
    base: AboveOne = 2.0

    def method(self):
        return self.base


@dataclass(unsafe_hash=True)
class Changeable:
    base: float = 2.0


FORMS = {
    "two public classes": '"""M."""\nclass A:\n    """A."""\nclass B:\n    """B."""\n',
    "no module docstring": 'class A:\n    """A."""\n',
    "no class docstring": '"""M."""\nclass A:\n    x: int = 1\n',
    "a setting without text": '"""M."""\nclass A:\n    """A."""\n    x: int = 1\n',
    "text without a setting": '"""M."""\nclass A:\n    """A.\n\n    Args:\n        x: gone.\n    """\n',
}


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS)
def test_a_malformed_source_is_caught(source, tmp_path, monkeypatch):
    family = tmp_path.name
    (tmp_path / family).mkdir()
    (tmp_path / family / "broken.py").write_text(source)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    with pytest.raises(AssertionError):
        form.check_source(family, "broken")


def test_a_class_that_is_not_what_its_source_says_is_caught():
    signature = catalog.signature("softmaxes", "base2")
    form.check_class(Base2, signature)
    for cls in (TernaryAbsmean, object):
        with pytest.raises(AssertionError):
            form.check_class(cls, signature)
    with pytest.raises(AssertionError, match="method has no docstring"):
        form.check_class(Undescribed, {"base": catalog.signature("softmaxes", "base_b")["base"]})


def test_a_changeable_variant_is_caught():
    with pytest.raises(AssertionError, match="not frozen"):
        form.check_value(Changeable())
