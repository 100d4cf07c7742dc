"""Cuts the first branches of a ResNeXt out of its variables, and puts their BN moments back.

Sub-network k of K keeps the first k / K of all branches: the first outputs of conv1 and conv2,
the first inputs of conv3, BN of its own and `exit`k. What is cut out are the variables of a plain
ResNeXt with so many branches, which is all that a sub-network is.

Where k is traced, shapes cannot follow it: every branch is computed, and those that are not kept
are multiplied by zeros in conv3, the only place where branches meet.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Variables
from jax_elastic.layers.banks import bank, in_bank

PyTree = Any

# The axis along which the branches lie; layers without one see whole features.
BRANCHES = {"conv1": -1, "bn2": -1, "conv2": -1, "bn3": -1, "conv3": -2}


@dataclasses.dataclass(frozen=True)
class Slicing(abc.ABC):
    """Sub-network k of K.

    Attributes:
      k: from 1; an int, or int32 ().
      of: K.
      banks: whether every BN layer of the blocks has K banks (`jax_elastic.layers.banks`).
    """

    k: Any
    of: int
    banks: bool

    def network(self, variables: Variables) -> Variables:
        """The sub-network's variables, its exit as `head`."""
        trees: Any = variables
        found: Any = {
            collection: {name: part for name, part in tree.items() if not name.startswith("exit")}
            for collection, tree in trees.items()
        }
        found = self.blocks(found)
        for collection, tree in trees.items():
            found[collection]["head"] = self._exit(tree)
        return found  # type: ignore[no-any-return]

    def blocks(self, own: Any) -> Any:
        """The part of stacked blocks that is read, of their ``{"params", "stats"}``."""
        return _by_module(self._cut, bank(own, self.k - 1) if self.banks else own)

    def put_back(self, moments: PyTree) -> PyTree:
        """BN moments of the sub-network -> those of the whole, zero where nothing was seen.

        Those of the blocks have leading axes (L, K); without banks (L,), and n is (L, C) where
        sub-networks differ in the channels that they have.
        """
        blocks = {name: part for name, part in moments.items() if name != "head"}
        if not self.banks:
            blocks = _count_channels(blocks)
        blocks = _by_module(self._put_back, blocks)
        if self.banks:
            blocks = in_bank(blocks, self.k - 1, self.of)
        return {**blocks, **self._exit_moments(moments["head"])}

    @abc.abstractmethod
    def _cut(self, module: str, leaf: Array) -> Array: ...

    @abc.abstractmethod
    def _put_back(self, module: str, leaf: Array) -> Array: ...

    @abc.abstractmethod
    def _exit(self, tree: PyTree) -> PyTree: ...

    @abc.abstractmethod
    def _exit_moments(self, moments: PyTree) -> PyTree: ...


class Cut(Slicing):
    """Sub-network k, with k known: exact slices."""

    def block(self, own: PyTree) -> PyTree:
        """As `blocks`, for one block that was taken out of its stack."""
        alone = jax.tree.map(lambda leaf: leaf[None], own)
        return jax.tree.map(lambda leaf: leaf[0], self.blocks(alone))

    def _cut(self, module: str, leaf: Array) -> Array:
        if module not in BRANCHES or leaf.ndim == 1:  # a count has no channels
            return leaf
        axis = BRANCHES[module] + leaf.ndim
        return leaf[(slice(None),) * axis + (slice(leaf.shape[axis] * self.k // self.of),)]

    def _put_back(self, module: str, leaf: Array) -> Array:
        if module in BRANCHES and leaf.ndim > 1:
            missing = leaf.shape[-1] * self.of // self.k - leaf.shape[-1]
            leaf = jnp.pad(leaf, ((0, 0), (0, missing)))
        return leaf

    def _exit(self, tree: PyTree) -> PyTree:
        return tree[f"exit{self.k}"]

    def _exit_moments(self, moments: PyTree) -> PyTree:
        return {f"exit{self.k}": moments}


class TracedCut(Slicing):
    """Sub-network k, with k traced: all branches, and zeros."""

    def _cut(self, module: str, leaf: Array) -> Array:
        return leaf * self._kept(leaf, -2)[:, None] if module == "conv3" else leaf

    def _put_back(self, module: str, leaf: Array) -> Array:
        if module in BRANCHES and leaf.ndim > 1:
            leaf = leaf * self._kept(leaf, -1)
        return leaf

    def _exit(self, tree: PyTree) -> PyTree:
        exits = [tree[f"exit{k + 1}"] for k in range(self.of)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[self.k - 1], *exits)

    def _exit_moments(self, moments: PyTree) -> PyTree:
        def of_exit(k: int) -> PyTree:
            return jax.tree.map(lambda a: a * (self.k == k + 1).astype(a.dtype), moments)

        return {f"exit{k + 1}": of_exit(k) for k in range(self.of)}

    def _kept(self, leaf: Array, axis: int) -> Array:
        """1 for channels of kept branches, else 0."""
        channels = leaf.shape[axis]
        kept: Array = jnp.arange(channels) < channels // self.of * self.k
        return kept.astype(leaf.dtype)


def _by_module(rule: Callable[[str, Array], Array], tree: PyTree) -> PyTree:
    """Applies a rule to the leaves of a tree; it is told which module holds each."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: rule(path[-2].key, leaf), tree)


def _count_channels(moments: PyTree) -> PyTree:
    """N (L,) -> n (L, c) for the layers whose channels depend on k."""
    found = {}
    for name, node in moments.items():
        if name in BRANCHES:
            n = jnp.broadcast_to(node["n"][:, None], node["mean"].shape)
            found[name] = {**node, "n": n}
        else:
            leaf = name.startswith("bn")
            found[name] = node if leaf else _count_channels(node)
    return found
