"""Choosing by time: hand-made rows, of which the best that keeps the time is known."""

import pytest

from jax_elastic.errors import UsageError
from jax_elastic.inference.within_time import choose, name_row, quickest, within


def row(asked, top1, median, p99, size=8, engine="masked"):
    return {
        "subnet": "full",
        "asked": asked,
        "engine": engine,
        "batch_size": size,
        "ms_median": median,
        "ms_p99": p99,
        "top1": top1,
    }


CHEAP, FAIR, GOOD = row(0.2, 0.8, 1, 2), row(0.6, 0.9, 2, 4), row(1.0, 0.95, 3, 6)
SINGLE = row(0.6, 0.9, 0.5, 1, size=1)
ROWS = [GOOD, CHEAP, FAIR, SINGLE]


@pytest.mark.parametrize(
    ("budget_ms", "batch", "single"),
    [
        (9, GOOD, SINGLE),
        (5, FAIR, SINGLE),
        (4, FAIR, SINGLE),
        (2, CHEAP, SINGLE),
        (1, None, SINGLE),
    ],
)
def test_the_best_accuracy_whose_99th_percentile_is_within_the_time_is_chosen(
    budget_ms, batch, single
):
    assert choose(ROWS, budget_ms) == {8: batch, 1: single}


def test_a_median_within_the_time_is_not_enough():
    assert within([row(0.6, 0.9, 3, 6)], 5) == {8: None}


def test_of_equal_accuracy_the_lower_median_is_taken():
    quick = row(0.6, 0.9, 1.5, 4.5, engine="compacted")
    assert choose([FAIR, quick], 5) == choose([quick, FAIR], 5) == {8: quick}


def test_an_impossible_time_names_the_fastest_point():
    with pytest.raises(UsageError) as error:
        choose(ROWS, 0.25)
    assert str(error.value) == (
        "no operating point keeps 0.25 ms; the fastest is full at budget 0.6 by masked, batches of "
        "1, whose 99th percentile is 1 ms; give more by --budget_ms, or try other --batch_sizes"
    )


@pytest.mark.parametrize("budget_ms", [0, -1, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(budget_ms):
    with pytest.raises(UsageError, match="is no time; milliseconds, more than 0"):
        choose(ROWS, budget_ms)


def test_the_quickest_is_that_of_the_least_99th_percentile():
    assert quickest(ROWS) == SINGLE
    assert quickest(ROWS, 8) == CHEAP


def test_a_row_is_named_with_its_budget_if_it_has_one():
    assert name_row(row(0.6, 0.9, 1, 2)) == "full at budget 0.6 by masked"
    assert name_row(row(None, 0.9, 1, 2, engine="static")) == "full by static"
