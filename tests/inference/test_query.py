"""Choosing within limits: the answer is what trying all rows gives."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_elastic.errors import UsageError
from jax_elastic.inference.query import LIMITED, choose, describe_limits, excess, within


def row(macs, top1, ms=None, params=10.0, asked=None, subnet="width:1"):
    found = {"subnet": subnet, "asked": asked, "top1": top1, "macs": macs, "flops": 2 * macs}
    return {**found, "ms": ms, "params": params}


small = st.integers(1, 6).map(float)
ROWS = st.lists(st.builds(row, small, small, small, small), min_size=1, max_size=10)
LIMITS = st.dictionaries(st.sampled_from(sorted(LIMITED)), st.integers(1, 12).map(float))


def brute(rows, limits):
    """The first of all rows in the order of what is wanted, after trying each limit on each."""
    best = sorted(rows, key=lambda row: (-row["top1"], row["macs"]))
    fit = itertools.filterfalse(lambda row: any(row[n] > most for n, most in limits.items()), best)
    return next(fit, None)


@given(ROWS, LIMITS)
def test_the_answer_is_that_of_trying_all_rows(rows, limits):
    assert within(rows, limits) == brute(rows, limits)


@given(ROWS, LIMITS)
def test_a_row_exceeds_limits_by_nothing_exactly_if_it_keeps_them(rows, limits):
    for one in rows:
        assert (excess(one, limits) == 0) == (within([one], limits) is not None)


def test_without_limits_the_best_of_all_is_chosen_and_of_equals_the_cheaper():
    rows = [row(1, 0.5), row(4, 0.9), row(3, 0.9), row(9, 0.8)]
    assert choose(rows, {}) == rows[2]


def test_a_row_that_was_not_timed_keeps_no_time():
    untimed, timed = row(1, 0.9), row(2, 0.8, ms=3.0)
    assert choose([untimed, timed], {"ms": 5.0}) == timed
    assert within([untimed], {"ms": 5.0}) is None


def test_an_impossible_limit_names_the_point_that_comes_nearest():
    rows = [row(3e6, 0.9, params=5e3), row(2e6, 0.5, params=8e3, asked=0.3, subnet="full")]
    with pytest.raises(UsageError) as error:
        choose(rows, {"macs": 1.5e6, "params": 1e4})
    assert str(error.value) == (
        "no operating point keeps 1.50 M MACs and 10.0 K parameters; full at budget 0.3 comes "
        "nearest, with 2.00 M MACs and 8.00 K parameters; give more by --max_macs or --max_params"
    )


def test_a_limit_on_what_is_the_same_everywhere_says_so():
    rows = [row(3e6, 0.9, params=8e3), row(2e6, 0.5, params=8e3)]
    with pytest.raises(UsageError, match="all points have as many parameters; give more"):
        choose(rows, {"params": 5e3})


@pytest.mark.parametrize("most", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_limit_is_refused(most):
    with pytest.raises(UsageError, match="is no limit; FLOPs, a number above 0"):
        choose([row(1, 0.5)], {"flops": most})


def test_limits_are_told_in_words():
    assert describe_limits({"macs": 2.8e9, "ms": 5}) == "2.80 G MACs and 5 ms"
