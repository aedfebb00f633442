"""Statistics against numbers of scipy and statsmodels, and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lowbit.analysis.statistics import band, differences, equivalence, holm, paired

TREATMENT = np.array([92.1, 91.4, 93.0, 92.2, 91.9])
BASELINE = np.array([92.4, 91.1, 92.7, 92.6, 92.3])

# scipy 1.17.1, ttest_rel and its confidence_interval; statsmodels 0.15.0, ttost_paired(..., -margin, margin).
ORACLE = {
    "mean": -0.1,
    "sd": 0.3674234614174767,
    "low_90": -0.4502981722,
    "high_90": 0.2502981722,
    "low_95": -0.5562164841,
    "high_95": 0.3562164841,
    "p": 0.5756683404,
}
TOST = {1.0: 0.0027042394, 0.5: 0.0358229370, 0.3: 0.1452202721}


def test_paired_matches_the_oracle():
    result = vars(paired(differences(TREATMENT, BASELINE)))
    assert result.pop("n") == 5
    assert result == pytest.approx(ORACLE, abs=1e-9)


@pytest.mark.parametrize(("margin", "p"), TOST.items())
def test_equivalence_matches_the_oracle(margin, p):
    assert equivalence(differences(TREATMENT, BASELINE), -margin, margin) == pytest.approx(p, abs=1e-9)


def test_equivalence_agrees_with_the_90_percent_interval():
    d = np.array([0.2, -0.1, 0.4, 0.1])
    edge = paired(d).high_90
    assert equivalence(d, -edge - 1e-6, edge + 1e-6) < 0.05 < equivalence(d, -edge + 1e-6, edge - 1e-6)


def test_identical_series_differ_by_exactly_zero():
    result = paired(differences(TREATMENT, TREATMENT))
    assert (result.mean, result.sd, result.low_95, result.high_95, result.p) == (0.0, 0.0, 0.0, 0.0, 1.0)
    assert equivalence(differences(TREATMENT, TREATMENT), -0.5, 0.5) == 0.0


def test_equal_differences_have_a_zero_width_interval():
    result = paired(np.full(3, 0.25))
    assert (result.low_90, result.high_90, result.p) == (0.25, 0.25, 0.0)
    assert equivalence(np.full(3, 0.25), -0.2, 0.2) == 1.0


def test_rounding_is_no_difference():
    scaled = np.array([0.31, 0.27, 0.29]) * (1 + 3e-16)
    for logarithmic in (False, True):
        assert not differences(scaled, [0.31, 0.27, 0.29], logarithmic=logarithmic).any()


@pytest.mark.parametrize("size", [0, 1])
def test_fewer_than_two_pairs_give_no_interval(size):
    result = paired(np.full(size, 0.4))
    assert result.n == size
    assert math.isnan(result.low_95)
    assert math.isnan(result.p)
    assert math.isnan(equivalence(np.full(size, 0.4), -1, 1))


def test_pairs_with_a_gap_are_left_out():
    assert differences([1.0, np.nan, 3.0], [0.5, 1.0, np.nan]).tolist() == [0.5]
    assert differences([2.0, 0.0], [1.0, 1.0], logarithmic=True).tolist() == [math.log(2.0)]


@pytest.mark.parametrize(("level", "low", "high"), [(0.95, "low_95", "high_95"), (0.90, "low_90", "high_90")])
def test_intervals_cover_the_true_mean(level, low, high):
    random = np.random.default_rng(20261101)
    trials = 600
    results = [paired(random.normal(0.3, 1, 4)) for _ in range(trials)]
    hits = sum(getattr(result, low) < 0.3 < getattr(result, high) for result in results)
    assert abs(hits / trials - level) < 4 * math.sqrt(level * (1 - level) / trials)


def test_equivalence_errs_in_5_percent_at_the_margin():
    random = np.random.default_rng(7)
    false = np.mean([equivalence(random.normal(1.0, 0.3, 5), -1, 1) < 0.05 for _ in range(600)])
    assert 0.05 - 0.036 < false < 0.05 + 0.036


@pytest.mark.parametrize("p", [[0.03], [0.01, 0.01, 0.5], [0.04, 0.001, 0.03, 0.6, 0.0], [0.9, 0.2, 1.0, 0.2]])
def test_holm_matches_statsmodels(p):
    assert holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_holm_does_not_count_unknown_p():
    assert holm(np.array([0.01, np.nan, 0.04])).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_band_is_the_t_interval_at_every_point():
    values = np.array([[1.0, 2.0, np.nan], [2.0, 2.5, 4.0], [4.0, 2.2, np.nan]])
    mean, low, high = band(values)
    expected = stats.t.interval(0.95, 2, loc=values[:, 0].mean(), scale=stats.sem(values[:, 0]))
    assert (low[0], high[0]) == pytest.approx(expected)
    assert mean[2] == 4.0
    assert np.isnan(low[2])
