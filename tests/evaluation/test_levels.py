"""Which label level an operating point answers at: rows in, answers out."""

import pytest
from toy import Toy

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.levels import at_finest, check_levels, finest_reaching

NAMES = ("class", "genus", "order")


def rows(subnet, *top1, asked=None):
    """The rows of one operating point, finest first."""
    levels = zip(range(len(top1)), NAMES, top1, strict=False)
    return [
        {"subnet": subnet, "asked": asked, "level": level, "level_name": name, "top1": share}
        for level, name, share in levels
    ]


THIN, WIDE = rows("width:1", 0.5, 0.8, 0.95), rows("width:2", 0.9, 0.92, 0.97)


@pytest.mark.parametrize(
    ("accuracy", "levels"),
    [
        (0.4, [0, 0]),
        (0.5, [0, 0]),  # reaching it is enough
        (0.51, [1, 0]),
        (0.91, [2, 1]),
        (0.96, [None, 2]),
        (0.99, [None, None]),
    ],
)
def test_each_point_answers_at_the_finest_level_that_reaches_the_accuracy(accuracy, levels):
    answers = finest_reaching([*THIN, *WIDE], accuracy)
    assert [answer.subnet for answer in answers] == ["width:1", "width:2"]
    assert [answer.row and answer.row["level"] for answer in answers] == levels
    assert [answer.coarsest["level_name"] for answer in answers] == ["order", "order"]


def test_the_order_of_the_rows_does_not_matter_to_the_levels():
    (answer,) = finest_reaching(THIN[::-1], 0.8)
    assert answer.row == THIN[1]
    assert answer.coarsest == THIN[2]


def test_a_finer_level_is_taken_even_where_a_coarser_one_fails():
    # Accuracy need not grow with every level: each has a classifier of its own.
    (answer,) = finest_reaching(rows("width:1", 0.9, 0.7, 0.95), 0.85)
    assert answer.row["level"] == 0


def test_budgets_are_answered_one_by_one():
    asked = [*rows("full", 0.6, 0.9, asked=0.3), *rows("full", 0.8, 0.9, asked=0.6)]
    answers = finest_reaching(asked, 0.7)
    assert [(answer.asked, answer.row["level"]) for answer in answers] == [(0.3, 1), (0.6, 0)]


@pytest.mark.parametrize("accuracy", [0, -0.1, 1.01, 90, float("nan")])
def test_what_is_no_accuracy_is_refused(accuracy):
    with pytest.raises(UsageError, match=r"accuracy \S+ is outside \(0, 1\]"):
        finest_reaching(THIN, accuracy)


def test_a_network_of_one_level_leaves_none_to_choose():
    check_levels(Toy(coarse=2))
    with pytest.raises(UsageError, match="this network has one label level"):
        check_levels(Toy())


def test_rows_of_one_level_leave_none_to_choose():
    evaluated = [{"subnet": "width:1", "asked": None, "top1": 0.5}]
    with pytest.raises(UsageError, match=r"one label level, .*; train one with config\.data"):
        finest_reaching(evaluated, 0.4)


def test_the_finest_level_is_all_there_is_where_rows_have_no_level():
    assert at_finest([*THIN, *WIDE]) == [THIN[0], WIDE[0]]
    assert at_finest([{"top1": 0.5}]) == [{"top1": 0.5}]
