"""The shapes of a network's arrays, found without making them.

`Family.init` has to be traced for that, which takes a moment, and many ask: it is done once.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Family, PyTree, Variables
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.errors import UsageError

SIDES = (8, 16, 32, 64, 128, 256)  # pixels; see `Family.init`
TRACED = 128  # networks and images whose shapes are kept

Shapes = dict[str, tuple[int, ...]]


def fresh_shapes(network: Family, image_shape: tuple[int, ...]) -> Variables:
    """What `init` would make.

    Args:
      network: the family.
      image_shape: (H, W, channels).

    Returns:
      `jax.ShapeDtypeStruct`s in the place of arrays; to be read, for others are given the same.

    Raises:
      UsageError: the network takes no such images.
    """
    return _traced(network, tuple(image_shape), jnp.result_type(float))


@functools.lru_cache(TRACED)
def _traced(network: Family, image_shape: tuple[int, ...], widest: jnp.dtype) -> Variables:
    del widest  # other dtypes come of it
    one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found: Variables = jax.eval_shape(network.init, jax.random.key(0), one)
    return found


def by_path(tree: PyTree) -> Shapes:
    """Path of each leaf, e.g. ``params/stem/conv/kernel`` -> its shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): getattr(leaf, "shape", ())
        for path, leaf in leaves
    }


@functools.lru_cache(TRACED)
def served_shapes(network: Family) -> Shapes:
    """The shapes by path of what a network needs to be run, for colour images of some size."""
    return _first_taken(network, SIDES, 3)


@functools.lru_cache(TRACED)
def shapes_for_any_images(network: Family) -> dict[str, tuple[int | None, ...]]:
    """As `served_shapes`, with None for each length that other images change."""
    others = _first_taken(network, SIDES[::-1], 1)
    return {
        path: tuple(a if a == b else None for a, b in zip(shape, others[path], strict=True))
        for path, shape in served_shapes(network).items()
    }


def _first_taken(network: Family, sides: Sequence[int], channels: int) -> Shapes:
    """The shapes for squares of the first of some sides that the network takes."""
    side, *others = sides
    try:
        return by_path(without_train_only(fresh_shapes(network, (side, side, channels))))
    except UsageError:
        if not others:
            raise
    return _first_taken(network, others, channels)
