"""The one error of a user: one line that says what, what is allowed and what to do."""

import pytest

from jax_elastic.errors import UsageError


@pytest.mark.parametrize(
    "parts,line",
    [
        (("budget 2 is outside [0, 1]",), "budget 2 is outside [0, 1]"),
        (("p 2 is no probability", "in [0, 1]"), "p 2 is no probability; in [0, 1]"),
        (("no budget", None, "give --budgets"), "no budget; give --budgets"),
        (("no budget", "in [0, 1]", "give one"), "no budget; in [0, 1]; give one"),
    ],
)
def test_the_message_is_one_line_of_the_parts_that_are_there(parts, line):
    assert str(UsageError(*parts)) == line


def test_the_parts_can_be_read_one_by_one():
    error = UsageError("no budget", allowed="in [0, 1]", next_step="give one")
    assert (error.what, error.allowed, error.next_step) == ("no budget", "in [0, 1]", "give one")


def test_it_is_no_value_error_so_that_nobody_catches_it_by_accident():
    assert UsageError.__bases__ == (Exception,)
