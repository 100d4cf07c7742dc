"""A chain of parts cut where its map can be resized: each stretch is what one scale determines."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import jax

from jax_elastic.backbones.parts import Part
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Variables
from jax_elastic.elastic.static import DType
from jax_elastic.errors import UsageError
from jax_elastic.layers import banks
from jax_elastic.layers.resize import resize

Parts = tuple[Part, ...]


def cut(parts: Iterable[Part]) -> tuple[Parts, ...]:
    """The parts before the first place where the map can be resized, and those after each."""
    return tuple(tuple(run) for _, run in itertools.groupby(parts, key=lambda part: part.stage))


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The parts between two resizes.

    Attributes:
      parts: in order.
      bank: whose BN layers are read, from 0, static or traced int (); None where there is a single
        set.
      of: how many banks there are.
    """

    parts: Parts
    bank: int | Array | None
    of: int

    def __call__(self, variables: Variables) -> dict[str, PyTree]:
        """What its parts read, in the network's trees: the `take` of a `Segment`."""
        found: dict[str, PyTree] = {}
        for part in self.parts:
            own = part.take(variables)
            if self.bank is not None:
                own = banks.bank(own, self.bank)
            for collection, tree in own.items():
                put(found, (collection, *part.path), tree)
        return found

    def in_bank(self, moments: dict[str, PyTree]) -> dict[str, PyTree]:
        """The moments of its parts as the network's: zero in all other banks."""
        return moments if self.bank is None else banks.in_bank(moments, self.bank, self.of)


def put(tree: dict[str, Any], path: tuple[str, ...], node: PyTree) -> None:
    """Adds a tree of dicts to what stands at a path of another, merged at every depth."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = _merged(tree.get(path[-1], {}), node)


def _merged(a: PyTree, b: PyTree) -> PyTree:
    """Both; a leaf that both have is the second's."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return b
    return {**a, **b, **{name: _merged(a[name], b[name]) for name in a.keys() & b.keys()}}


def run(
    parts: Parts, own: PyTree, x: Array, bn: BNMode, key: Array | None = None
) -> tuple[Any, dict[str, PyTree]]:
    """Parts one after the other: the last one's output, and the BN moments in the network's tree.

    Args:
      parts: in order.
      own: what a `Stretch` of them takes.
      x: (B, H, W, C).
      bn: `batch` or `running` statistics.
      key: of what is drawn in training; None draws nothing.
    """
    moments: dict[str, PyTree] = {}
    for i, part in enumerate(parts):
        own_key = None if key is None else jax.random.fold_in(key, i)
        x, found = part.run(part.take(own), x, bn, own_key)
        if found:
            put(moments, part.path, found)
    return x, moments


def check_fits(images: Array, largest: int) -> None:
    """Refuses images that a network would make smaller before it begins.

    Args:
      images: (B, H, W, channels).
      largest: side of the squares that it makes of images, in pixels.

    Raises:
      UsageError: a side is longer.
    """
    _, height, width, _ = images.shape
    if max(height, width) > largest:
        raise UsageError(
            f"images are {height}x{width}",
            f"at most {largest}x{largest}",
            "for larger ones train with a larger config.network.side",
        )


@dataclasses.dataclass(frozen=True)
class ResizeCode:
    """A resize as a segment's code: ``image`` or ``x`` -> ``x``.

    Attributes:
      side: in pixels.
      impl: see `jax_elastic.layers.resize`.
      dtype: see `Static`.
      largest: of an image's sides, see `check_fits`; a map may have any.
    """

    side: int
    impl: str
    dtype: DType
    largest: int

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`.

        Raises:
          UsageError: the images are too large.
        """
        del own
        rest = {name: array for name, array in carry.items() if name not in ("image", "x")}
        if "image" in carry:
            check_fits(carry["image"], self.largest)
        x = carry["x"] if "x" in carry else carry["image"].astype(self.dtype)
        return {**rest, "x": resize(x, (self.side, self.side), self.impl)}

    def train(
        self, own: PyTree, carry: Carry, key: Array, bn: BNMode
    ) -> tuple[Carry, dict[str, PyTree]]:
        """See `TrainCode`: it has no statistics."""
        del key, bn
        return self.open(own, carry), {}


@dataclasses.dataclass(frozen=True)
class StretchCode:
    """A stretch as a segment's code: ``x`` -> ``x``, or ``logits`` where it ends in the classifier.

    Attributes:
      stretch: what is run; what it takes is given.
      index: its place in the network, for keys.
      last: whether the network ends with it.
    """

    stretch: Stretch
    index: int
    last: bool

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        out, _ = run(self.stretch.parts, own, carry["x"], "running")
        return {"logits": out} if self.last else {**carry, "x": out}

    def train(
        self, own: PyTree, carry: Carry, key: Array, bn: BNMode
    ) -> tuple[Carry, dict[str, PyTree]]:
        """See `TrainCode`."""
        own_key = jax.random.fold_in(key, self.index)
        out, moments = run(self.stretch.parts, own, carry["x"], bn, own_key)
        after = {"logits": out} if self.last else {**carry, "x": out}
        return after, self.stretch.in_bank(moments)


Option = tuple[ResizeCode, StretchCode]
"""A resize, and the stretch from there to the next one."""


def joined(found: Iterable[dict[str, PyTree]]) -> dict[str, PyTree]:
    """The moments of several stretches as one tree."""
    moments: dict[str, PyTree] = {}
    for own in found:
        for name, node in own.items():
            put(moments, (name,), node)
    return moments
