"""What follows from a spec before training."""

import math

import pytest

from lowbit import catalog
from lowbit.analysis.scales import effective_temperature, gradient_factor, scale_only

LN2 = math.log(2.0)


def spec(softmax: dict, *, where: str = "both", scale: float | str = 1.0) -> dict:
    """The part of a run's spec that matters here."""
    loss = {"scale": scale, "label_smoothing": 0.0}
    return {"softmax": softmax, "softmax_where": where, "loss": loss, "arm": "x", "seed": 0, "dataset": "digits"}


@pytest.mark.parametrize("temperature", [1.0, 0.7, "ln2", "1/ln2"])
@pytest.mark.parametrize("name", ["base_e", "base2", "base_b"])
def test_effective_temperature_is_that_of_the_softmax_itself(name, temperature):
    settings = {"name": name, "temperature": temperature} | ({"base": 3.0} if name == "base_b" else {})
    expected = catalog.build("softmaxes", settings).effective_temperature
    assert effective_temperature(settings) == pytest.approx(expected, rel=1e-12)


def test_arms_that_are_equal_on_paper_share_the_very_number():
    assert effective_temperature({"name": "base2"}) == effective_temperature({"name": "base_e", "temperature": "1/ln2"})
    assert effective_temperature({"name": "base2", "temperature": "ln2"}) == 1.0


def test_another_kind_of_softmax_has_none():
    assert math.isnan(effective_temperature({"name": "relu"}))


def test_gradient_factor():
    base2, base_e = {"name": "base2", "temperature": 1.0}, {"name": "base_e", "temperature": 1.0}
    assert gradient_factor(spec(base2)) == pytest.approx(LN2)
    assert gradient_factor(spec(base2, where="attention")) == 1.0
    assert gradient_factor(spec(base_e, scale="ln2")) == pytest.approx(LN2)


def test_scale_only_means_the_scale_and_nothing_else():
    base_e = {"name": "base_e", "temperature": 1.0}
    plain, scaled = spec(base_e), spec(base_e, scale="ln2")
    assert scale_only(scaled, plain)
    assert not scale_only(plain, plain)
    assert not scale_only({**scaled, "softmax": {"name": "base2"}}, plain)
    assert not scale_only({**scaled, "loss": {"scale": "ln2", "label_smoothing": 0.1}}, plain)
