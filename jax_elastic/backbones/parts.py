"""A network as a chain of parts, so that its map can be resized between them.

Whatever says its parts can be made resizable (`jax_elastic.elastic.resizable`): nothing else is
asked of a backbone.
"""

import abc
import dataclasses
import itertools
from typing import Any, Protocol

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.stage import Stage

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Part:
    """Some layers that follow one another, between two places where a map can be resized.

    Attributes:
      path: of its variables in the network's, e.g. ``("stage2",)``.
      module: called with (x, bn), or as a `Stage`; gives the next part's x. The last gives
        logits (B, classes) of each label level.
      stage: whose map it reads, counted from 1; 0 before the first. Where it is that of no part
        before, the map can be resized before this one.
      reads: the children at `path` that it reads; None for all.
      stride: pixels of its input, along an axis, for each of its output; the last are rounded up.
    """

    path: tuple[str, ...]
    module: nn.Module
    stage: int
    reads: tuple[str, ...] | None = None
    stride: int = 1

    def take(self, variables: Any) -> dict[str, PyTree]:
        """Exactly what it reads of a network's collections; one that it does not have is left out.

        Raises:
          ValueError: these are another network's variables.
        """
        found = {}
        for collection, tree in variables.items():
            node = _at(tree, self.path)
            if node is not None and self.reads is not None:
                node = {name: node[name] for name in self.reads if name in node}
            if node:
                found[collection] = node
        own = found.get("params", {})
        missing = [name for name in self.reads or () if name not in own]
        if "params" in variables and (missing or not own):
            raise ValueError(f"there is no module {'/'.join((*self.path, *missing))} in params")
        return found

    def holds(self, path: tuple[str, ...]) -> bool:
        """Whether what stands at a path of the network's variables is its own."""
        depth = len(self.path)
        return path[:depth] == self.path and (self.reads is None or path[depth] in self.reads)

    def run(
        self, own: PyTree, x: Array, bn: BNMode, key: Array | None = None
    ) -> tuple[Any, PyTree]:
        """Its output, and the BN moments of its own tree (None in `running` mode).

        Args:
          own: what `take` gives.
          x: (B, H, W, C).
          bn: `batch` or `running` statistics.
          key: of what is drawn in training (dropout); None draws nothing.
        """
        rngs = None if key is None else {"dropout": key}
        args = _arguments(self.module, x, bn)
        out, sown = self.module.apply(own, *args, mutable=["moments"], rngs=rngs)
        return _output(self.module, out), sown.get("moments")


def _arguments(module: nn.Module, x: Array, bn: BNMode) -> tuple[Any, ...]:
    return (x, None, bn) if isinstance(module, Stage) else (x, bn)


def _output(module: nn.Module, out: Any) -> Any:
    return out[0] if isinstance(module, Stage) else out


def _at(tree: PyTree, path: tuple[str, ...]) -> PyTree:
    for name in path:
        tree = tree.get(name) if tree is not None else None
    return tree


class Chain(Protocol):
    """A backbone that says its parts: a frozen dataclass of hyperparameters."""

    @property
    def classes(self) -> int:
        """The number of classes."""
        ...

    def module(self) -> nn.Module:
        """The whole network, called with (images, bn).

        It gives what its parts give one after the other, logits (B, classes) of each label level;
        that of residual blocks gives a pair of these and of what the blocks gave.
        """
        ...

    def reference(self) -> Any:
        """The same architecture with the layers whose MACs are counted."""
        ...

    def parts(self) -> tuple[Part, ...]:
        """Its parts, in order; together they read every variable once."""
        ...

    def standard(self, side: int) -> tuple[int, ...]:
        """The side of each stage's map, in pixels, for square images of this side."""
        ...


class Chained(abc.ABC):
    """What a `Chain` has by its parts alone; an architecture that says them inherits from it."""

    @abc.abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """See `Chain`."""

    def standard(self, side: int) -> tuple[int, ...]:
        """See `Chain`."""
        sides: dict[int, int] = {}
        for part in self.parts():
            sides.setdefault(part.stage, side)
            side = -(-side // part.stride)
        return tuple(sides[stage] for stage in sorted(sides) if stage)

    def module(self) -> nn.Module:
        """See `Chain`."""
        return ChainModule(self)


class ChainModule(nn.Module):
    """The network of parts, each of which reads variables of its own at a path of one name."""

    architecture: Chained

    @nn.compact
    def __call__(self, images: Array, bn: BNMode) -> tuple[Array, ...]:
        """Classifies images.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.

        Returns:
          Logits float (B, classes) of the one label level.
        """
        x: Any = images
        for (name,), run in itertools.groupby(self.architecture.parts(), lambda part: part.path):
            x = SideBySide(tuple(run), name=name)(x, bn)
        return x  # type: ignore[no-any-return]


class SideBySide(nn.Module):
    """Parts that follow one another and whose variables are children of one node."""

    parts: tuple[Part, ...]

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Any:
        """What the last of them gives."""
        for part in self.parts:
            module = part.module.clone(parent=self)
            nn.share_scope(self, module)
            x = _output(module, module(*_arguments(module, x, bn)))
        return x
