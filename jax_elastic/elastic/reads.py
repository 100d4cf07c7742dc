"""What of a network's BN statistics an operating point reads."""

import itertools
from typing import Any

import jax
import numpy as np

from jax_elastic.elastic.family import Family, PyTree, Variables
from jax_elastic.subnet import Subnet

Path = tuple[Any, ...]
STATISTICS = ("mean", "var", "count")


def statistics_read(network: Family, variables: Variables, subnet: Subnet) -> PyTree:
    """Where the statistics are that an operating point reads.

    Its segments are the only ones who know, so each of them takes its part of numbered places.

    Args:
      network: the family.
      variables: its arrays, or their shapes.
      subnet: an operating point of it.

    Returns:
      The tree of `variables["stats"]`, bool arrays: True where the point reads.
    """
    leaves, structure = jax.tree.flatten(variables["stats"])
    bounds = list(itertools.accumulate([0, *(int(np.prod(leaf.shape)) for leaf in leaves)]))
    starts = bounds[:-1]
    places = [
        (start + np.arange(np.prod(leaf.shape), dtype=np.int32)).reshape(leaf.shape)
        for start, leaf in zip(starts, leaves, strict=True)
    ]
    # Of no memory: what is taken of parameters is not looked at.
    params = jax.tree.map(lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), variables["params"])
    numbered: Variables = {"params": params, "stats": jax.tree.unflatten(structure, places)}
    read = np.zeros(bounds[-1], bool)
    for segment in network.segments(subnet):
        for path, taken in jax.tree_util.tree_leaves_with_path(segment.take(numbered)):
            if _is_statistic(path):
                read[np.asarray(taken).ravel()] = True
    masks = [read[place] for place in places]
    return jax.tree.unflatten(structure, masks)


def _is_statistic(path: Path) -> bool:
    """Segments may also take what is no array of the network, as a number of a column."""
    return getattr(path[-1], "key", None) in STATISTICS
