"""The one error that a user causes, and how it lists many things."""

from collections.abc import Sequence

_NAMED = 5  # of many things that are wrong, so many are told


class UsageError(Exception):
    """Bad input, told in one line: what is wrong, what is allowed, what to do next.

    Raised at the door, before any work is lost. The command line prints it without a
    traceback and exits with 2; library code lets it through.

    Args:
      what: names the thing and its value, e.g. ``budget 1.3 is outside [0, 1]``.
      allowed: the values that would have been right, or None where `what` says it.
      next_step: what to type or change, or None.
    """

    def __init__(self, what: str, allowed: str | None = None, next_step: str | None = None):
        super().__init__("; ".join(part for part in (what, allowed, next_step) if part))
        self.what = what
        self.allowed = allowed
        self.next_step = next_step


def first_few(found: Sequence[str]) -> str:
    """A list for a message: the first five, and how many more there are."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
