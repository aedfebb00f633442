"""The scalars that runs are reduced to."""

import math

import numpy as np
import pytest

from lowbit.analysis.measures import gradient_measures, steps_to

LN2 = math.log(2.0)


def norms(spread: float = 0.3, steps: int = 400) -> np.ndarray:
    """Gradient norms with a trend and a known spread of their logarithm."""
    noise = np.random.default_rng(3).normal(size=steps)
    return (0.5 + np.exp(-np.arange(steps) / 40)) * np.exp(spread * noise)


def test_dispersion_finds_the_spread_under_a_trend():
    assert gradient_measures(norms(0.3)).dispersion == pytest.approx(0.3, rel=0.08)
    assert gradient_measures(norms(0.6)).dispersion == pytest.approx(0.6, rel=0.08)


def test_a_factor_changes_the_raw_variance_and_nothing_else():
    plain, scaled = gradient_measures(norms()), gradient_measures(LN2 * norms())
    assert scaled.dispersion == pytest.approx(plain.dispersion, rel=1e-12)
    assert scaled.cv == pytest.approx(plain.cv, rel=1e-12)
    assert scaled.spike_fraction == plain.spike_fraction
    assert scaled.variance / plain.variance == pytest.approx(0.4805, abs=1e-4)


def test_the_first_tenth_does_not_count():
    wild = norms()
    wild[:40] *= np.where(np.arange(40) % 2, 30.0, 1.0)
    assert gradient_measures(wild[40:]).dispersion == pytest.approx(gradient_measures(wild).dispersion, rel=0.05)


def test_spikes_are_steps_above_three_running_medians():
    quiet = np.ones(200)
    quiet[[50, 100, 150]] = 3.5
    quiet[120] = 2.5
    assert gradient_measures(quiet).spike_fraction == pytest.approx(3 / 180)


def test_a_short_run_has_no_measures():
    assert all(map(math.isnan, gradient_measures(norms(steps=8))))


STEPS, VALUES = np.array([10, 20, 30]), np.array([0.2, 0.6, 0.9])


@pytest.mark.parametrize(
    ("reference", "steps", "censored"),
    [(0.5, 17.5, "no"), (0.6, 20.0, "no"), (0.75, 25.0, "no"), (0.1, 10.0, "left"), (0.95, 30.0, "right")],
)
def test_steps_to_a_reference(reference, steps, censored):
    reached = steps_to(reference, STEPS, VALUES)
    assert reached.steps == pytest.approx(steps)
    assert reached.censored == censored


def test_the_first_crossing_counts():
    assert steps_to(0.5, np.arange(1, 5), np.array([0.4, 0.6, 0.3, 0.9])).steps == pytest.approx(1.5)


def test_no_reference_is_neither_reached_nor_missed():
    reached = steps_to(math.nan, STEPS, VALUES)
    assert math.isnan(reached.steps)
    assert reached.censored == ""
