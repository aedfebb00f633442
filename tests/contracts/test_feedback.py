"""What every feedback owes, for every variant under its settings."""

import pytest
from checks import feedback as checks
from checks.settings import all_variations, label

from lowbit import catalog
from lowbit.feedback._base import Feedback


@pytest.fixture(scope="module", params=all_variations("feedback"), ids=label)
def feedback(request) -> Feedback:
    return catalog.build("feedback", request.param)


def test_it_changes_its_own_buffers_alone(feedback):
    checks.check_gradient_is_left_alone(feedback)


def test_parameters_do_not_meet(feedback):
    checks.check_parameters_do_not_meet(feedback)


def test_zero_stays_zero(feedback):
    checks.check_zero_stays_zero(feedback)


def test_densities_reach_the_target(feedback):
    checks.check_density(feedback)
