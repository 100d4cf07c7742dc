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
    """Consecutive segments with the same code and role.

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
    runs, owns = [], []
    for (code, role), group in itertools.groupby(segments, key=lambda s: (s.code, s.role)):
        taken = [segment.take(variables) for segment in group]
        runs.append(Run(code, role, len(taken)))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *taken)
        owns.append(stacked if len(taken) > 1 else taken[0])
    return tuple(runs), tuple(owns)


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
      carry: ``{"image": (B, H, W, channels)}``.
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
        if run.length == 1:
            carry, z = one(carry, (own, None if decided is None else decided[0]))
            z = None if z is None else z[None]
        else:
            carry, z = lax.scan(one, carry, (own, decided))
        if z is not None:
            logits.append(z)
    return carry, jnp.concatenate(logits).T if logits else None
