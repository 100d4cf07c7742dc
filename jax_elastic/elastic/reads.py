"""What of a network's BN statistics an operating point reads."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Family, PyTree, Variables
from jax_elastic.subnet import Subnet

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
    params = jax.tree.map(_of_no_memory, variables["params"])
    numbered: Variables = {"params": params, "stats": jax.tree.unflatten(structure, places)}
    read = np.zeros(bounds[-1], bool)
    for _, _, taken in _taken(network, numbered, subnet):
        read[np.asarray(taken).ravel()] = True
    masks = [read[place] for place in places]
    return jax.tree.unflatten(structure, masks)


def unestimated(network: Family, variables: Variables, subnet: Subnet) -> str | None:
    """The first segment of an operating point with BN statistics that were never estimated.

    Args:
      network: the family.
      variables: its arrays, concrete.
      subnet: an operating point of it.

    Returns:
      The segment's name; None where all statistics that the point reads were estimated.
    """

    def needed(path: tuple[Any, ...], leaf: Any) -> Any:
        return leaf if _kind(path) == "count" else _of_no_memory(leaf)

    # Cutting segments out is far quicker on the host; nothing else is fetched from the devices.
    counts: Variables = {
        "params": jax.tree.map(_of_no_memory, variables["params"]),
        "stats": jax.device_get(jax.tree_util.tree_map_with_path(needed, variables["stats"])),
    }
    for name, kind, taken in _taken(network, counts, subnet):
        if kind == "count" and (np.asarray(taken) == 0).any():
            return name
    return None


def without_others(network: Family, variables: Variables, subnet: Subnet) -> Variables:
    """A network for one operating point alone: every door refuses a point that reads more.

    Args:
      network: the family.
      variables: its arrays, concrete.
      subnet: an operating point of it.

    Returns:
      The variables, in which statistics that the point does not read count as never estimated.
    """

    def forget(path: tuple[Any, ...], leaf: Any, read: np.ndarray) -> Any:
        return jnp.where(read, leaf, 0) if _kind(path) == "count" else leaf

    read = statistics_read(network, variables, subnet)
    stats = jax.tree_util.tree_map_with_path(forget, variables["stats"], read)
    return {"params": variables["params"], "stats": stats}


def _taken(
    network: Family, variables: Variables, subnet: Subnet
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(segment, kind, array) of each of the `STATISTICS` that an operating point's segments take.

    Segments may also take what is no array of the network, as a number of a column.
    """
    for segment in network.segments(subnet):
        for path, leaf in jax.tree_util.tree_leaves_with_path(segment.take(variables)):
            if _kind(path) in STATISTICS:
                yield segment.name, _kind(path), leaf


def _kind(path: tuple[Any, ...]) -> str:
    """The name of a leaf in its layer; empty where it has none."""
    return getattr(path[-1], "key", "") if path else ""


def _of_no_memory(leaf: Any) -> np.ndarray:
    """Zeros of a leaf's shape, for what is taken and not looked at."""
    return np.broadcast_to(np.int8(0), leaf.shape)
