"""Intervals and p-values are those of scipy's bootstrap and permutation test, but for their own error."""

import numpy as np
import pytest
from scipy import stats

from ragjob.evaluation.ranking import Values
from ragjob.evaluation.resampling import interval, p_value

RANDOM = np.random.default_rng(7)
HITS = RANDOM.random(400) < 0.8
SHARES = np.round(RANDOM.random(150), 2)
A_FEW_CHANGES = np.array([0.5, 1, -1, 0, 0, 0.25, 1, 1, 0, 1])
A_CLEAR_LOSS = RANDOM.choice([-1, 0, 1], 60, p=[0.45, 0.45, 0.1]).astype(float)
A_SLIGHT_GAIN = np.round(RANDOM.normal(0.2, 1, 50), 1)


@pytest.mark.parametrize("values", [HITS.astype(float), SHARES])
def test_intervals_are_those_of_scipys_percentile_bootstrap(values: Values) -> None:
    limits = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9_999, rng=3).confidence_interval
    width = limits.high - limits.low
    assert interval(values) == pytest.approx((limits.low, limits.high), abs=0.05 * width)


@pytest.mark.parametrize("differences", [A_CLEAR_LOSS, A_SLIGHT_GAIN])
def test_p_values_are_those_of_scipys_paired_permutation_test(differences: Values) -> None:
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=4_999, batch=1_000, vectorized=True, rng=3
    )
    error = 4 * np.sqrt(test.pvalue * (1 - test.pvalue) * (1 / 4_999 + 1 / 9_999))  # of both
    assert p_value(differences) == pytest.approx(test.pvalue, abs=error + 1 / 4_999)


def test_p_values_of_few_changes_are_exact() -> None:
    test = stats.permutation_test((A_FEW_CHANGES,), np.mean, permutation_type="samples", n_resamples=2**10)
    assert p_value(A_FEW_CHANGES) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("differences", [np.zeros(5), np.array([1.0]), np.array([0.0, 0.0, -1.0])])
def test_one_change_or_none_may_be_chance(differences: Values) -> None:
    assert p_value(differences) == 1


def test_equal_values_have_an_interval_without_width_and_a_single_one_has_none() -> None:
    assert interval(np.full(30, 0.5)) == (0.5, 0.5)
    assert interval(np.array([0.5])) is None


def test_the_same_values_give_the_same_figures() -> None:
    assert (interval(SHARES), p_value(A_SLIGHT_GAIN)) == (interval(SHARES), p_value(A_SLIGHT_GAIN))
