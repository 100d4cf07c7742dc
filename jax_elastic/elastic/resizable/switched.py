"""A traced operating point: each stretch is a switch over its own scales.

One program serves every combination, in a space of any size: what is compiled grows with stages
times scales. Between stretches a map lies in the upper left corner of a canvas of zeros, as large
as any that can come there. A branch cuts it out and is then the static stretch itself.

A switch keeps what every branch needs for its gradient, zeros for those not taken: the memory of
one draw at each scale, as unrolled draws take. Computing branches again (`jax.checkpoint`) takes
that of one, and a seventh longer.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Variables
from jax_elastic.elastic.resizable.stretches import Option

Size = tuple[int, ...]
"""(height, width) of a map, in pixels; () where there is none."""
_Branch = Callable[[PyTree, Carry, Array, Array], tuple[Carry, PyTree]]
"""(variables of all banks, what comes, which size its map has, key) -> (what goes, moments)."""


def run(
    places: Sequence[Sequence[Option]],
    where: Sequence[int | Array],
    variables: Variables,
    images: Array,
    key: Array,
    bn: BNMode,
) -> tuple[Carry, tuple[PyTree, ...]]:
    """The training forward of a traced operating point.

    Args:
      places: what can run at each place of the network, by the index of its scale.
      where: for each place an index into it, int32 ().
      variables: the network's.
      images: (B, H, W, C), to which no gradient flows.
      key: of what is drawn in training.
      bn: `batch` or `running` statistics.

    Returns:
      What the last stretch hands on, and the moments of each, in the network's tree.
    """
    carry: Carry = {"image": images}
    sizes: list[Size] = [images.shape[1:3]]
    came, found = jnp.int32(0), []
    for column, index in zip(places, where, strict=True):
        options = list(dict.fromkeys(column))
        own = dataclasses.replace(options[0][1].stretch, bank=None)(variables)
        chosen = _table([options.index(option) for option in column])[index]
        after = [_after(option, own, carry, key, bn) for option in options]
        canvas = tuple(np.max(after, 0).tolist())
        branches = [_branch(option, sizes, canvas, bn) for option in options]
        carry, moments = lax.switch(chosen, branches, own, carry, came, key)
        found.append(moments)
        sizes = list(dict.fromkeys(after))
        came = _table([sizes.index(size) for size in after])[chosen]
    return carry, tuple(found)


def _table(numbers: list[int]) -> Array:
    return jnp.asarray(numbers, jnp.int32)


def _after(option: Option, own: PyTree, carry: Carry, key: Array, bn: BNMode) -> Size:
    """The size of the map that an option hands on, whatever the one it is given."""
    resizing, code = option

    def run(own: PyTree, carry: Carry, key: Array) -> Carry:
        return code.train(code.stretch(own), resizing.open({}, carry), key, bn)[0]

    after = jax.eval_shape(run, own, carry, key)
    return tuple(after["x"].shape[1:3]) if "x" in after else ()


def _branch(option: Option, sizes: Sequence[Size], canvas: Size, bn: BNMode) -> _Branch:
    """An option between canvases: the map on the one it is given has one of some sizes."""
    resizing, code = option

    def from_size(size: Size) -> Callable[[Carry], Carry]:
        height, width = size
        return lambda carry: resizing.open(
            {}, {name: maps[:, :height, :width] for name, maps in carry.items()}
        )

    def branch(own: PyTree, carry: Carry, came: Array, key: Array) -> tuple[Carry, PyTree]:
        resized = lax.switch(came, [from_size(size) for size in sizes], carry)
        after, moments = code.train(code.stretch(own), resized, key, bn)
        if "x" in after:
            after = {"x": _on_canvas(after["x"], canvas)}
        return after, moments

    return branch


def _on_canvas(x: Array, canvas: Size) -> Array:
    height, width = canvas
    return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)))
