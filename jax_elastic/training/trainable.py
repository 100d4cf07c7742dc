"""Parameters chosen by a regular expression over their paths: those a phase trains or decays."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jax_elastic.elastic.family import Variables
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
    chosen = flatten_dict(matches(params, pattern, "trainable"), sep="/")
    trainable = {path: leaf for path, leaf in flat.items() if chosen[path]}
    frozen = {path: leaf for path, leaf in flat.items() if not chosen[path]}
    return unflatten_dict(trainable, sep="/"), unflatten_dict(frozen, sep="/")


def is_trained(take: Callable[[Variables], PyTree], variables: Variables, pattern: str) -> bool:
    """Whether a part of a network has a trainable leaf.

    Args:
      take: variables -> the arrays of that part, see `Segment`.
      variables: the network's, or their shapes.
      pattern: see `partition`.
    """

    def marks(leaf: Any, mark: bool) -> np.ndarray:
        return np.broadcast_to(np.bool_(mark), leaf.shape)  # of no memory

    params = variables["params"]
    chosen = jax.tree.map(marks, params, matches(params, pattern, "trainable"))
    none = jax.tree.map(lambda leaf: marks(leaf, False), variables["stats"])
    return any(np.any(leaf) for leaf in jax.tree.leaves(take({"params": chosen, "stats": none})))


def matches(params: PyTree, pattern: str, what: str) -> PyTree:
    """Which leaves a regular expression finds by their path: the tree of `params`, of bools.

    Args:
      params: nested dict.
      pattern: see `partition`.
      what: the pattern's name, for the error.

    Raises:
      UsageError: the pattern is no regular expression or matches no parameter.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{what} {pattern!r} is no regular expression: {error}") from None

    def found(path: Any, leaf: Any) -> bool:
        del leaf
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return compiled.search(name) is not None

    tree = jax.tree_util.tree_map_with_path(found, params)
    if not any(jax.tree.leaves(tree)):
        paths = sorted(flatten_dict(params, sep="/"))
        raise UsageError(
            f"{what} {pattern!r} matches no parameter",
            "parameters are called " + ", ".join(paths[:3]) + ", ...",
        )
    return tree


def merge(trainable: PyTree, frozen: PyTree) -> PyTree:
    """The parameters again; the inverse of `partition`."""
    flat = flatten_dict(trainable, sep="/") | flatten_dict(frozen, sep="/")
    return unflatten_dict(flat, sep="/")
