"""What families share when they cut themselves into segments."""

import dataclasses
from typing import Any

import jax

from jax_elastic.elastic.family import Variables

PyTree = Any


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
        """The module's ``{"params", "stats"}``; a collection it does not have is left out."""
        own = {}
        tree: Any
        for collection, tree in variables.items():
            for name in self.path:
                tree = tree.get(name) if tree is not None else None
            if tree is not None:
                own[collection] = tree
        if self.index is None:
            return own
        return jax.tree.map(lambda leaf: leaf[self.index], own)
