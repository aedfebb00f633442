"""What every surrogate owes, for every variant under every setting, in any quantizer."""

import pytest
from checks.settings import all_variations, label
from checks.surrogates import (
    check_attach,
    check_functional_transforms,
    check_is_derivative,
    check_low_precision,
    check_mass,
    check_normalized,
    check_schedule,
    check_serves,
    check_symmetry,
    check_zero_counts,
)

from lowbit import catalog

NAMES = catalog.available("surrogates")


@pytest.fixture(params=NAMES)
def moments(request):
    """A surrogate with its defaults, at several moments of training."""
    surrogate = catalog.build("surrogates", {"name": request.param})
    return [surrogate.at(progress) for progress in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize("settings", all_variations("surrogates"), ids=label)
def test_it_is_the_derivative_of_its_antiderivative_with_the_mass_that_it_states(settings):
    surrogate = catalog.build("surrogates", settings)
    check_is_derivative(surrogate)
    check_symmetry(surrogate)
    check_low_precision(surrogate)
    check_mass(surrogate)
    check_normalized(surrogate)
    check_schedule(surrogate)
    check_zero_counts(surrogate)


def test_it_is_attached_exactly(moments):
    for surrogate in moments:
        check_attach(surrogate)


def test_it_passes_functional_transforms(moments):
    for surrogate in moments:
        check_functional_transforms(surrogate)


@pytest.mark.usefixtures("draws_of_one_half")
@pytest.mark.parametrize("settings", all_variations("quantizers"), ids=label)
def test_it_serves_any_quantizer(moments, settings):
    for surrogate in moments:
        check_serves(surrogate, catalog.build("quantizers", settings))
