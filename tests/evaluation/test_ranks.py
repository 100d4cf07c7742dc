"""Spearman's rank correlation and its interval, beside hand computations and scipy."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from jax_elastic.evaluation.ranks import rank_correlation


def test_equal_numbers_share_the_mean_of_their_ranks():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: deviations multiply to 4.5, their squares add to 4.5, 5.
    found = rank_correlation([0.1, 0.7, 0.7, 0.9], [1, 2, 3, 40])
    assert found is not None
    assert found.value == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_the_interval_is_fishers_with_the_variance_for_ranks():
    x, y = np.arange(12), np.array([3, 1, 2, 0, 5, 8, 4, 6, 11, 7, 10, 9])
    found = rank_correlation(x, y)
    assert found is not None
    # The differences of ranks, squared, add up to 9+0+0+9+1+9+4+1+9+4+0+4 = 50.
    rho = 1 - 6 * 50 / (12 * 143)
    assert found.value == pytest.approx(rho) == spearmanr(x, y).statistic
    reach = 1.959964 * math.sqrt((1 + rho**2 / 2) / 9)
    ends = math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-6)


def test_within_groups_only_the_order_inside_them_counts():
    x, groups = [1, 2, 3, 11, 12, 13, 14], [0, 0, 0, 1, 1, 1, 1]
    y = [30, 20, 10, 94, 93, 92, 91]
    over, within = rank_correlation(x, y), rank_correlation(x, y, groups)
    assert over is not None and within is not None
    # Differences of ranks, squared: 4 + 4 and 9 + 1 + 1 + 9.
    assert over.value == pytest.approx(1 - 6 * 28 / (7 * 48))
    assert within.value == pytest.approx(-1)


def test_the_correlation_within_groups_is_the_partial_one_given_the_group():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 12))
    second = np.repeat([0, 1], [5, 7])
    found = rank_correlation(x, y, second)
    assert found is not None
    a, b, c = (spearmanr(*pair).statistic for pair in ((x, y), (x, second), (y, second)))
    partial = (a - b * c) / math.sqrt((1 - b**2) * (1 - c**2))
    assert found.value == pytest.approx(partial)
    reach = 1.959964 * math.sqrt((1 + partial**2 / 2) / (12 - 1 - 3))
    ends = math.tanh(math.atanh(partial) - reach), math.tanh(math.atanh(partial) + reach)
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_still_leaves_something_open(sign):
    found = rank_correlation(range(14), [sign * i for i in range(14)])
    assert found is not None and found.value == pytest.approx(sign)
    inner = min(abs(found.low), abs(found.high))
    assert 0.97 < inner < 1
    assert max(abs(found.low), abs(found.high)) == pytest.approx(1)


@pytest.mark.parametrize(
    "x,y,groups",
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 1, 1, 1], [1, 2, 3, 4], None),
        ([1, 2, 3, 4], [0, 0, 0, 0], None),
        ([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1]),
        ([1, 2, 3, 4, 5, 6], [1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1]),
    ],
)
def test_where_there_is_no_order_there_is_no_correlation(x, y, groups):
    assert rank_correlation(x, y, groups) is None


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator, rho, n, times = np.random.default_rng(0), 0.6, 14, 2000
    truth = 6 / math.pi * math.asin(rho / 2)  # of normal pairs
    pairs = generator.normal(size=(times, n, 2)) @ np.array([[1, rho], [0, math.sqrt(1 - rho**2)]])
    found = [rank_correlation(*pair.T) for pair in pairs]
    held = np.mean([one is not None and one.low <= truth <= one.high for one in found])
    # 2000 times .95 differ by a standard deviation of .005; the formula is an approximation.
    assert held == pytest.approx(0.95, abs=0.015)
