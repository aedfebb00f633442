"""What every softmax owes, for every variant under many settings."""

import pytest
from checks.settings import all_variations, label
from checks.softmaxes import (
    base_and_temperature,
    check_attention,
    check_attention_gradients,
    check_cross_entropy,
    check_gradients,
    check_low_precision,
    check_probabilities,
    check_scale,
)

from lowbit import catalog
from lowbit.softmaxes._base import ExponentialSoftmax


@pytest.fixture(scope="module", params=all_variations("softmaxes"), ids=label)
def spec(request) -> tuple[ExponentialSoftmax, float, float]:
    softmax = catalog.build("softmaxes", request.param)
    return softmax, *base_and_temperature(softmax, request.param["name"])


def test_scale_is_ln_base_over_temperature(spec):
    check_scale(*spec)


def test_probabilities_follow_the_definition(spec):
    check_probabilities(*spec)


def test_half_precision_is_rounded_once(spec):
    check_low_precision(*spec)


def test_derivatives_are_right_and_carry_the_scale(spec):
    check_gradients(*spec)


def test_cross_entropy_is_in_nats_of_the_same_probabilities(spec):
    check_cross_entropy(*spec)


def test_attention_follows_the_definition(spec):
    check_attention(*spec)


def test_attention_is_differentiable_twice(spec):
    check_attention_gradients(spec[0])
