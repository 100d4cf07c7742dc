"""What families share when they cut themselves into segments."""

import dataclasses
from typing import Any

import jax

from jax_elastic.elastic.family import Carry, Variables

PyTree = Any


def first_carry(images: Any, budget: Any | None, keys: Any | None) -> Carry:
    """What the first segment of a network receives; arrays or their shapes.

    Args:
      images: float (B, H, W, channels).
      budget: float32 (B,), where the network takes one.
      keys: (B,), where its gates are random.

    Returns:
      ``{"image", "budget", "key"}`` without those that are None.
    """
    carry = {"image": images, "budget": budget, "key": keys}
    return {name: array for name, array in carry.items() if array is not None}


def take_nothing(variables: Variables) -> PyTree:
    """The `take` of a `Segment` that reads no array."""
    del variables
    return {}


@dataclasses.dataclass(frozen=True)
class Take:
    """Cuts one module's variables out of a network's: the `take` of a `Segment`.

    Attributes:
      path: the module's place, e.g. ``("stage2", "blocks")``.
      index: its place in a stack (leading axis), or None where it is not stacked.
    """

    path: tuple[str, ...]
    index: int | None = None

    def __call__(self, variables: Variables) -> PyTree:
        """The module's ``{"params", "stats"}``; a collection it does not have is left out.

        Raises:
          ValueError: no collection has it.
        """
        own = {}
        tree: Any
        for collection, tree in variables.items():
            for name in self.path:
                tree = tree.get(name) if tree is not None else None
            if tree is not None:
                own[collection] = tree
        if not own:
            path, collections = "/".join(self.path), ", ".join(variables)
            raise ValueError(f"there is no module {path} in any of {collections}")
        if self.index is None:
            return own
        return jax.tree.map(lambda leaf: leaf[self.index], own)
