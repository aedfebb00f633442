"""What a variant owes, whatever its family: its form, its errors, and examples that are true."""

import doctest
import importlib
import inspect

import pytest
from checks.form import check_built, check_class, check_source, check_value
from checks.settings import label, variations

from lowbit import catalog

FAMILIES = sorted(p.parent.name for p in catalog.PACKAGE.glob("*/_base.py"))
VARIANTS = [(family, name) for family in FAMILIES for name in catalog.available(family)]
WITH_EXAMPLES = sorted(
    ".".join(("lowbit", *p.relative_to(catalog.PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for p in catalog.PACKAGE.rglob("*.py")
    if ">>>" in p.read_text(encoding="utf-8")
)
each_variant = pytest.mark.parametrize(("family", "name"), VARIANTS, ids=["/".join(v) for v in VARIANTS])


def class_of(family: str, name: str) -> type:
    module = importlib.import_module(f"lowbit.{family}.{name}")
    (cls,) = (
        c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__ and n[0] != "_"
    )
    return cls


def test_the_families_of_this_page_are_found():
    assert {"softmaxes", "quantizers", "surrogates", "models", "data", "compressors", "feedback"} <= set(FAMILIES)


@each_variant
def test_source_is_documented_and_has_one_public_class(family, name):
    check_source(family, name)


@each_variant
def test_signature_read_from_the_source_is_the_class(family, name):
    check_class(class_of(family, name), catalog.signature(family, name))


@each_variant
def test_defaults_and_samples_build_frozen_values(family, name):
    for settings in variations(family, name)[: 1 if family == "data" else None]:
        variant = catalog.build(family, settings)
        assert type(variant) is class_of(family, name), label(settings)
        check_built(type(variant), {key: value for key, value in settings.items() if key != "name"})
        check_value(variant)


@each_variant
def test_an_unknown_setting_is_answered_with_the_allowed_ones(family, name):
    with pytest.raises(ValueError, match="no_such_setting") as caught:
        catalog.build(family, {"name": name, "no_such_setting": 1})
    assert f"{family}.{name}" in str(caught.value)
    assert all(key in str(caught.value) for key in catalog.signature(family, name))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_name_is_answered_with_the_allowed_ones(family):
    for wrong in ("no_such_name", "_base", "../errors", catalog.available(family)[0].upper(), None):
        with pytest.raises(ValueError, match="unknown variant") as caught:
            catalog.build(family, {"name": wrong})
        assert all(name in str(caught.value) for name in catalog.available(family))


def test_a_near_miss_is_told_what_was_meant():
    with pytest.raises(ValueError, match="did you mean 'base2'"):
        catalog.build("softmaxes", {"name": "bas2"})
    with pytest.raises(ValueError, match="did you mean 'temperature'"):
        catalog.build("softmaxes", {"name": "base2", "temprature": 2.0})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "ln3", None, "", [1.0]])
def test_a_temperature_that_is_none_is_refused(value):
    for name in ("base2", "base_b", "base_e"):
        with pytest.raises(ValueError, match="temperature"):
            catalog.build("softmaxes", {"name": name, "temperature": value})


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_are_true(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
