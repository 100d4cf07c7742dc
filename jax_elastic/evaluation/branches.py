"""How much of a block each of its branches carries, read off the weights.

A block of branches is a 1x1 convolution, a 3x3 one in groups that never meet, and a 1x1 one that
brings them together (`conv1`, `conv2`, `conv3`). Where the first few branches are a network by
themselves, training puts more into them than into the last; where no branch comes first, all carry
about the same.

References:
  Anytime Neural Prediction via Slicing Networks Vertically (2018), figure 3b.
"""

import itertools
from typing import Any

import numpy as np

from jax_elastic.elastic.family import PyTree, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import Floats

SHOWN = 5  # the block of the paper's figure


def branch_norms(variables: Variables, block: int) -> Floats:
    """The L1 norm of what each branch puts into the last convolution of a block.

    Args:
      variables: of a network whose blocks are stacked under ``stageN/blocks``, their last
        convolution whole or in groups of branches.
      block: counted from 1, over all stages.

    Returns:
      float64 (branches,): of branch c, the sum of |conv3| over its input channels.

    Raises:
      UsageError: the network has no such block.
    """
    blocks = _blocks(variables)
    if not 1 <= block <= len(blocks):
        raise UsageError(
            f"there is no block {block} with branches", f"this network has {len(blocks)} of them"
        )
    stage, index = blocks[block - 1]
    width, middle = stage["conv2"]["kernel"].shape[-2:]
    kernel = np.abs(np.asarray(stage["conv3"]["kernel"][index, 0, 0], np.float64))
    groups = middle // len(kernel)
    # (inputs of a group, all outputs) -> (branches of a group, width, groups, outputs of a group)
    parts = kernel.reshape(-1, width, groups, kernel.shape[1] // groups)
    norms: Floats = parts.sum((1, 3)).T.ravel()
    return norms


def branch_rows(variables: Variables) -> list[dict[str, Any]]:
    """The norms of block `SHOWN`, of a shallower network those of its last block.

    Args:
      variables: of any network.

    Returns:
      One row per branch: `block`, `branch` (both from 1), `l1`. None for a network
      that has no blocks as `branch_norms` takes them.
    """
    count = len(_blocks(variables))
    if not count:
        return []
    block = min(SHOWN, count)
    norms = branch_norms(variables, block)
    return [{"block": block, "branch": c, "l1": float(l1)} for c, l1 in enumerate(norms, 1)]


def _blocks(variables: Variables) -> list[tuple[PyTree, int]]:
    """Stage and index of every block that has branches, in order of execution."""
    found: list[tuple[PyTree, int]] = []
    for i in itertools.count(1):
        stage = variables["params"].get(f"stage{i}")
        if stage is None:
            return found
        blocks = stage.get("blocks", {})
        if not {"conv2", "conv3"} <= blocks.keys():
            continue
        width, middle = blocks["conv2"]["kernel"].shape[-2:]
        if width < middle:
            found += [(blocks, j) for j in range(len(blocks["conv3"]["kernel"]))]
    return found
