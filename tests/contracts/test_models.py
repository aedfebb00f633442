"""What every model owes, in full precision and with low-bit layers."""

import pytest
from checks.layers import check_converted, rules
from checks.models import (
    TINY,
    VOCABULARY,
    batch,
    build,
    check_causal,
    check_gradient_flow,
    check_learns,
    check_running_statistics,
    check_samples_are_independent,
    check_shape_and_start,
    check_softmax_reaches_attention,
)

from lowbit import catalog
from lowbit.errors import SettingError
from lowbit.layers.convert import convert
from lowbit.models._base import ImageModel, TextModel
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.softmaxes.base2 import Base2

NAMES = catalog.available("models")
RECURRENT = ("lstm",)  # has no low-bit form, and says so


def tiny(name: str) -> ImageModel | TextModel:
    return catalog.build("models", {"name": name, **TINY.get(name, {})})


@pytest.fixture(params=NAMES)
def recipe(request) -> ImageModel | TextModel:
    return tiny(request.param)


@pytest.fixture(params=[name for name in NAMES if name not in RECURRENT])
def convertible(request) -> ImageModel | TextModel:
    return tiny(request.param)


def test_logits_have_the_promised_shape_and_weights_come_from_the_seed(recipe):
    check_shape_and_start(recipe)


def test_samples_do_not_see_each_other(recipe):
    check_samples_are_independent(build(recipe), batch(recipe)[0])


def test_batch_norms_remember(recipe):
    check_running_statistics(build(recipe))


def test_softmax_reaches_attention_and_nothing_else(recipe):
    check_softmax_reaches_attention(recipe, Base2())


@pytest.mark.parametrize("name", [n for n in NAMES if catalog.base_class("models", n) == "TextModel"])
def test_position_of_a_text_sees_only_earlier_ones(name):
    recipe = tiny(name)
    check_causal(build(recipe), batch(recipe)[0], VOCABULARY)


def test_gradient_reaches_every_parameter(recipe):
    check_gradient_flow(build(recipe), *batch(recipe))


@pytest.mark.parametrize("activation", [None, Int8Absmax()], ids=["W1.58A32", "W1.58A8"])
def test_gradient_reaches_every_parameter_of_low_bit_layers(convertible, activation):
    module = build(convertible)
    check_converted(module, rules(TernaryAbsmean(), activation))
    check_gradient_flow(module, *batch(convertible))


def test_a_batch_is_learned_by_heart(recipe):
    check_learns(build(recipe), *batch(recipe, 4), steps=100, lr=1e-2, goal=0.02)


@pytest.mark.parametrize("activation", [None, Int8Absmax()], ids=["W1.58A32", "W1.58A8"])
def test_a_batch_is_learned_by_heart_with_ternary_weights(convertible, activation):
    module = build(convertible, Base2())
    assert any(row.converted for row in check_converted(module, rules(TernaryAbsmean(), activation)))
    check_learns(module, *batch(convertible, 4), steps=150, lr=1e-2, goal=0.02)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_refused_and_not_left_unsaid(name):
    for conversion in (rules(TernaryAbsmean()), rules(NoQuantizer(), Int8Absmax())):
        with pytest.raises(SettingError, match=r"^lstm: there are no low-bit recurrent layers; set quantization"):
            convert(build(tiny(name)), conversion)
    assert not any(row.converted for row in check_converted(build(tiny(name)), rules(NoQuantizer())))
