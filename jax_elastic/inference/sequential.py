"""Image by image: what an image does not open is not computed for it."""

from typing import Any

import jax
from jax import lax

from jax_elastic.elastic.family import Array, Carry, GatedCode

PyTree = Any


def sequential(code: GatedCode, own: PyTree, carry: Carry, opened: Array) -> Carry:
    """One image after the other; a closed segment takes the shortcut alone.

    Args:
      code: the segment's computation.
      own: its arrays.
      carry: per-image arrays.
      opened: bool (B,).
    """

    def one(image: tuple[Carry, Array]) -> Carry:
        carry, opened = image
        alone = jax.tree.map(lambda array: array[None], carry)
        after = lax.cond(opened, code.open, code.skip, own, alone)
        return jax.tree.map(lambda array: array[0], after)  # type: ignore[no-any-return]

    if len(opened) == 1:
        # A single image needs no loop around its branch.
        return lax.cond(opened[0], code.open, code.skip, own, carry)  # type: ignore[no-any-return]
    return lax.map(one, (carry, opened))  # type: ignore[no-any-return]
