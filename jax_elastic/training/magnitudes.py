"""How large the gradients of a network's convolutions are, segment by segment."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Array, Family, PyTree, Variables
from jax_elastic.errors import UsageError
from jax_elastic.training.trainable import merge

GRADIENT = "gradient/"
"""What the names of these metrics begin with; the segment's name follows."""


def magnitudes(
    network: Family, stats: PyTree, gradient: PyTree, frozen: PyTree
) -> dict[str, Array]:
    """Mean |dL/dW| over the weights of the convolutions of each segment.

    Segments are those of the fullest operating point: of residual networks the stem and each block.
    BN, biases and dense layers, so also gates and classifiers, do not count.

    Args:
      network: the family.
      stats: its statistics, which segments take beside their parameters.
      gradient: dL/dW of what is trained, a nested dict; summed over draws, without weight decay.
      frozen: the other parameters.

    Returns:
      ``gradient/SEGMENT`` -> float (); segments in which no convolution is trained are left out.

    Raises:
      UsageError: the network has no convolutions.

    References:
      SGAD (2018), figure 4.
    """
    none = jax.tree.map(jnp.zeros_like, frozen)
    values: Variables = {"params": merge(gradient, none), "stats": stats}
    trained = merge(_marks(gradient, True), _marks(frozen, False))
    marks: Variables = {"params": trained, "stats": _marks(stats, False)}
    found, convolutions = {}, 0
    for segment in network.segments(network.subnets.fullest):
        kernels = list(
            zip(_kernels(segment.take(values)), _kernels(segment.take(marks)), strict=True)
        )
        convolutions += len(kernels)
        size = sum(int(mark.sum()) for _, mark in kernels)
        if size:
            total = sum(jnp.abs(leaf).sum() for leaf, mark in kernels if mark.any())
            found[GRADIENT + segment.name] = jnp.asarray(total) / size
    if not convolutions:
        raise UsageError(
            "config.runtime.gradients tells of convolutions, and this network has none",
            next_step="leave config.runtime.gradients out",
        )
    return found


def _marks(tree: PyTree, mark: bool) -> PyTree:
    """Whether each number counts: bools of the tree's shapes, of no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.bool_(mark), leaf.shape), tree)


def _kernels(own: PyTree) -> list[Any]:
    """The kernels of convolutions in what a segment takes, whole stacks of them included."""
    return [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(own.get("params", {}))
        # Height, width, inputs and outputs: those of dense layers have the last two alone.
        if path[-1].key == "kernel" and leaf.ndim >= 4
    ]
