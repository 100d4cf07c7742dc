"""BN with banks, on the variables of a network whose layers know of none.

A bank is one set of parameters and statistics of a BN layer, for one width or one scale. Banks
lie along an axis before that of the channels: `scale`, `bias`, `mean` and `var` of a layer with m
banks are (m, C), or (L, m, C) in a stack of L equal blocks, and `count` is (m,) or (L, m). What
`bank` takes out are the variables of the plain network; what that sows, `in_bank` puts back, and
`norm.fold` then moves this bank only.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_elastic.layers.norm import is_bn

Array = jax.Array
PyTree = Any
Path = tuple[str, ...]

WITHOUT_CHANNELS = ("count", "n")


def make_banks(
    variables: Mapping[str, PyTree], banks: int, where: Callable[[Path], bool] = lambda path: True
) -> dict[str, PyTree]:
    """Gives BN layers equal banks.

    Args:
      variables: ``{"params", "stats"}`` of a plain network.
      banks: m, how many each of the layers gets.
      where: whether the layer at a path, e.g. ``("stage1", "blocks", "bn1")``, gets them.

    Returns:
      The same trees, m copies of every leaf of these layers along the bank axis.
    """

    def copies(path: Path, leaf: Array) -> Array:
        axis = _axis(path[-1])
        return jnp.repeat(jnp.expand_dims(leaf, axis), banks, axis)

    return _at_bn(copies, variables, where)


def bank(own: Mapping[str, PyTree], index: int | Array) -> dict[str, PyTree]:
    """The plain variables that one bank makes.

    Args:
      own: ``{"params", "stats"}`` in which every BN layer has banks; other leaves are kept.
      index: which bank, from 0; static, or traced int ().

    Raises:
      ValueError: a layer has no bank of that static index.
    """

    def chosen(path: Path, leaf: Array) -> Array:
        _check(index, leaf.shape[_axis(path[-1])])
        return leaf[_at(path, index)]

    return _at_bn(chosen, own, lambda path: True)


def fill_bank(
    variables: Mapping[str, PyTree],
    empty: Callable[[Path], int | None],
    source: Callable[[Path], int | None],
) -> dict[str, PyTree]:
    """Puts another bank's parameters and statistics where a bank's statistics are not estimated.

    What was estimated, if only once, is kept; in a stack of blocks each is looked at by itself.

    Args:
      variables: ``{"params", "stats"}`` of a network.
      empty: which bank of the layer at a path is filled; None for none.
      source: which one it is filled with; asked where `empty` gives one.
    """

    def filled(path: Path, leaf: Array) -> Array:
        into, of = empty(path[:-1]), source(path[:-1])
        if into is None or of is None:
            return leaf
        layer = functools.reduce(lambda tree, name: tree[name], path[:-1], variables["stats"])
        missing = layer["count"][..., into] == 0
        if _axis(path[-1]) == -2:
            missing = missing[..., None]
        there, here = leaf[_at(path, of)], leaf[_at(path, into)]
        return jnp.asarray(leaf).at[_at(path, into)].set(jnp.where(missing, there, here))

    return _at_bn(filled, variables, lambda path: True)


def in_bank(moments: PyTree, index: int | Array, banks: int) -> PyTree:
    """The moments of a plain network as those of one bank, zero in all others.

    Args:
      moments: ``{mean, var, n}`` of each BN layer, as a plain network sows them.
      index: which bank, from 0; static, or traced int ().
      banks: m, how many there are.

    Raises:
      ValueError: there is no bank of that static index.
    """
    _check(index, banks)
    hot = jnp.arange(banks) == index

    def put(path: Any, leaf: Array) -> Array:
        axis = _axis(path[-1].key)
        # Not a product: a pass that diverged must not reach the banks of others.
        return jnp.where(hot if axis == -1 else hot[:, None], jnp.expand_dims(leaf, axis), 0)

    return jax.tree_util.tree_map_with_path(put, moments)


def _check(index: int | Array, banks: int) -> None:
    """Refuses a bank that there is not; a traced one is not known yet."""
    if not isinstance(index, jax.core.Tracer) and not 0 <= int(index) < banks:
        raise ValueError(f"bank {index} is not one of {banks}")


def _axis(name: str) -> int:
    """Where the bank axis of a BN layer's leaf is, or would be."""
    return -1 if name in WITHOUT_CHANNELS else -2


def _at(path: Path, index: int | Array) -> tuple[Any, ...]:
    """Where a bank is in the leaf at a path."""
    return (..., index) if _axis(path[-1]) == -1 else (..., index, slice(None))


def _at_bn(
    rule: Callable[[Path, Array], Array],
    variables: Mapping[str, PyTree],
    where: Callable[[Path], bool],
) -> dict[str, PyTree]:
    """Applies a rule to the leaves of some BN layers; it is told the path of each."""
    layers = {path for path in bn_layers(variables.get("stats", {})) if where(path)}

    def at(path: Any, leaf: Array) -> Array:
        names = tuple(key.key for key in path)
        return rule(names, leaf) if names[:-1] in layers else leaf

    return {
        collection: jax.tree_util.tree_map_with_path(at, tree)
        for collection, tree in variables.items()
    }


def bn_layers(stats: PyTree, path: Path = ()) -> Iterator[Path]:
    """The paths of all BN layers; only statistics tell them from a linear layer."""
    if is_bn(stats):
        yield path
    elif isinstance(stats, Mapping):
        for name, node in stats.items():
            yield from bn_layers(node, (*path, name))
