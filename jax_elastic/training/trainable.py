"""Which parameters a phase trains: a nested dict split in two by a regular expression."""

import re
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from jax_elastic.errors import UsageError

PyTree = Any


def partition(params: PyTree, pattern: str) -> tuple[PyTree, PyTree]:
    """Splits parameters into (trainable, frozen); leaves of the other part are absent.

    Only the trainable part is differentiated and has optimizer state.

    Args:
      params: nested dict of arrays.
      pattern: a leaf is trainable iff `re.search` finds it in its path, e.g. ``/gate/`` in
        ``stage1/blocks/gate/hidden/kernel``.

    Raises:
      UsageError: the pattern is no regular expression or matches no parameter.
    """
    flat = flatten_dict(params, sep="/")
    try:
        matches = {path for path in flat if re.search(pattern, path)}
    except re.error as error:
        raise UsageError(f"trainable {pattern!r} is no regular expression: {error}") from None
    if not matches:
        raise UsageError(
            f"trainable {pattern!r} matches no parameter",
            "parameters are called " + ", ".join(sorted(flat)[:3]) + ", ...",
        )
    trainable = {path: leaf for path, leaf in flat.items() if path in matches}
    frozen = {path: leaf for path, leaf in flat.items() if path not in matches}
    return unflatten_dict(trainable, sep="/"), unflatten_dict(frozen, sep="/")


def merge(trainable: PyTree, frozen: PyTree) -> PyTree:
    """The parameters again; the inverse of `partition`."""
    flat = flatten_dict(trainable, sep="/") | flatten_dict(frozen, sep="/")
    return unflatten_dict(flat, sep="/")
