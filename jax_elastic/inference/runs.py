"""Runs of equal segments: their arrays are stacked and one scan goes through them.

It keeps compile time constant in depth, as the stacked blocks of training do.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.elastic.family import Array, Carry, Code, Role, Segment, Variables

PyTree = Any
Gates = Array | None


class Run(NamedTuple):
    """Consecutive segments with the same code, role and shapes of arrays.

    Attributes:
      code: the computation they share.
      role: their role.
      length: how many they are; their arrays have a leading axis of that size if it is > 1.
    """

    code: Code
    role: Role
    length: int


def stack_runs(
    segments: Sequence[Segment], variables: Variables
) -> tuple[tuple[Run, ...], tuple[PyTree, ...]]:
    """Groups segments; returns the runs (hashable) and, for each, its arrays."""
    taken = [(segment, segment.take(variables)) for segment in segments]

    def kind(pair: tuple[Segment, PyTree]) -> Any:
        segment, own = pair
        return segment.code, segment.role, _shapes(own)

    runs, owns = [], []
    for (code, role, _), group in itertools.groupby(taken, key=kind):
        arrays = [own for _, own in group]
        runs.append(Run(code, role, len(arrays)))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        owns.append(stacked if len(arrays) > 1 else arrays[0])
    return tuple(runs), tuple(owns)


def _shapes(tree: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def run_segments(
    runs: Sequence[Run],
    owns: Sequence[PyTree],
    carry: Carry,
    budget: Array | None,
    gates: Gates,
    gated: Callable[..., Carry],
) -> tuple[Carry, Array | None]:
    """Runs a network.

    Args:
      runs: from `stack_runs`.
      owns: their arrays.
      carry: from `first_carry`.
      budget: () or None.
      gates: bool (B, N) that replace the network's decisions, or None.
      gated: (code, own, carry, opened) -> carry; how an engine goes through a gated segment.

    Returns:
      The last carry, and the gate logits (B, N) or None without gated segments.
    """
    logits: list[Array] = []
    done = 0
    for run, own in zip(runs, owns, strict=True):
        code: Any = run.code

        def one(carry: Carry, xs: PyTree, code: Any = code, role: Role = run.role) -> Any:
            own, decided = xs
            if role != "gated":
                return code.open(own, carry), None
            z = code.gate(own, carry, budget)
            return gated(code, own, carry, z >= 0 if decided is None else decided), z

        decided = None
        if run.role == "gated":
            decided = None if gates is None else gates[:, done : done + run.length].T
            done += run.length
        stacked = own if run.length > 1 else jax.tree.map(lambda a: a[None], own)
        carry, z = _repeat(one, carry, (stacked, decided), run.length)
        if z is not None:
            logits.append(z)
    return carry, jnp.concatenate(logits).T if logits else None


def _repeat(one: Any, carry: Carry, rows: PyTree, length: int) -> tuple[Carry, Array | None]:
    """Applies `one` to each row; in a scan where the carry keeps its shapes."""

    def row(i: int) -> PyTree:
        return jax.tree.map(lambda a: a[i], rows)

    after, _ = jax.eval_shape(one, carry, row(0))
    if length > 1 and _shapes(after) == _shapes(carry):
        found: tuple[Carry, Array | None] = lax.scan(one, carry, rows, length=length)
        return found
    logits = []
    for i in range(length):
        carry, z = one(carry, row(i))
        logits.append(z)
    return carry, None if logits[0] is None else jnp.stack(logits)
