"""Pareto fronts of hand-made rows, and that no point off a front is missed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_elastic.evaluation.pareto import front, on_front, thinned


def rows(points, cost="macs_mean"):
    return [{cost: macs, "top1": top1} for macs, top1 in points]


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([(1, 0.5), (2, 0.6), (3, 0.7)], [True, True, True]),
        ([(3, 0.5), (2, 0.6), (1, 0.7)], [False, False, True]),
        ([(1, 0.5), (2, 0.5), (3, 0.6)], [True, False, True]),
        ([(1, 0.5), (1, 0.6), (1, 0.6)], [False, True, True]),
        ([(1, 0.0)], [True]),
    ],
    ids=["rising", "falling", "no better", "of one cost", "one"],
)
@pytest.mark.parametrize("cost", ["macs_mean", "ms"])
def test_a_point_is_on_the_front_if_none_is_as_good_for_less(points, kept, cost):
    assert on_front(rows(points, cost), cost) == kept


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_row_is_off_the_front_exactly_if_another_is_better_in_one_and_no_worse_in_the_other(
    points,
):
    def beaten(one):
        return any(
            macs <= one[0] and top1 >= one[1] and (macs, top1) != one for macs, top1 in points
        )

    assert on_front(rows(points)) == [not beaten(point) for point in points]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_along_a_front_both_rise(points):
    found = [(row["macs_mean"], row["top1"]) for row in front(rows(points))]
    assert all(a == b or (a[0] < b[0] and a[1] < b[1]) for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("most", [2, 3, 5, 16, 40])
@pytest.mark.parametrize("count", [0, 1, 2, 16, 33])
def test_of_many_so_many_are_kept_in_their_order_with_both_ends(count, most):
    kept = thinned(list(range(count)), most)

    assert len(set(kept)) == len(kept) == min(count, most)
    assert kept == sorted(kept)
    assert kept[:1] + kept[-1:] == list(range(count))[:1] + list(range(count))[-1:]
