"""A run of blocks of equal width; equal ones are stacked and run in one `lax.scan`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Made:
    """A kind of block and its settings; unlike a `partial`, equal to others with the same.

    Attributes:
      kind: its class.
      settings: (field, value) pairs.
    """

    kind: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, **further: Any) -> Any:
        """A block."""
        return self.kind(**dict(self.settings), **further)


def made_of(kind: Callable[..., Any], **settings: Any) -> Made:
    """What makes blocks of a kind, see `Made`."""
    return Made(kind, tuple(settings.items()))


class Stage(nn.Module):
    """`size` blocks of equal width; the first stands alone where it differs from the others."""

    size: int
    stride: int
    alone: bool
    block: Callable[..., Any]

    @nn.compact
    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """Runs the blocks; `per_block` has leading axis `size`, and so has the second result."""
        outs = []
        if self.alone:
            block = self.block(stride=self.stride, first=True, name="first")
            x, out = block(x, _row(per_block, 0), bn)
            outs.append(jax.tree.map(lambda a: a[None], out))
        stacked = self.size - len(outs)
        if stacked:

            def one(block: Any, x: Array, row: PyTree) -> tuple[Array, PyTree]:
                return block(x, row, bn)  # type: ignore[no-any-return]

            scan = nn.scan(
                one,
                variable_axes={"params": 0, "stats": 0, "moments": 0},
                split_rngs={"params": True},
                length=stacked,
            )
            block = self.block(stride=1, name="blocks")
            x, out = scan(block, x, rows(per_block, len(outs), self.size))
            outs.append(out)
        return x, join(outs)


def rows(tree: PyTree, start: int, stop: int) -> PyTree:
    """Some rows of what each block gets: leading axes `stop` - `start`."""
    return jax.tree.map(lambda a: a[start:stop], tree)


def join(trees: list[PyTree]) -> PyTree:
    """What several runs of blocks gave, as that of one."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def _row(tree: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda a: a[i], tree)
