"""A law's cases: some for the fast part, which stand for each kind, and the others for the slow."""

import pytest


def thorough(cases, fast):
    """The cases as parameters, slow but for those of which `fast` holds.

    Args:
      cases: tuples of a test's arguments, or single arguments.
      fast: case -> bool.
    """
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=() if fast(*case) else pytest.mark.slow, id=_id(case))
        for case in cases
    ]


def _id(case):
    return "-".join(str(getattr(part, "__name__", part)) for part in case)
