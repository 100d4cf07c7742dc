"""Runs of equal segments: their arrays are stacked and one scan goes through them.

It keeps compile time constant in depth, as the stacked blocks of training do. How a gated segment
is gone through is an argument: `masked` here, the ways that skip in `jax_elastic.inference`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from jax_elastic.elastic.family import (
    Array,
    Carry,
    Code,
    Family,
    GatedCode,
    Prediction,
    Role,
    Segment,
    Variables,
)
from jax_elastic.elastic.points import capacity, highest, own_budget
from jax_elastic.elastic.segments import first_carry
from jax_elastic.subnet import Subnet

PyTree = Any
Own = Callable[[], PyTree]


class Injected(NamedTuple):
    """Decisions that may replace the network's own; a program serves both.

    Attributes:
      opened: bool (B, N).
      given: bool (), whether they do.
    """

    opened: Array | npt.NDArray[np.bool_]
    given: Array | np.bool_


Gates = Injected | None


class Way(Protocol):
    """How a batch goes through a gated segment."""

    def __hash__(self) -> int:
        """Programs are remembered by it."""
        ...

    def __call__(self, code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
        """Opens the segment for some images and takes the shortcut for the others.

        Args:
          code: the segment's computation.
          own: gives its arrays. They are cut out of a stack where this is called: in a branch that
            is not taken, they are not even read.
          carry: per-image arrays.
          opened: bool (B,).
        """
        ...


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
        alone = len(arrays) == 1
        owns.append(
            arrays[0] if alone else jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        )
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
    way: Way,
    share: float | None = None,
    broken: Array | None = None,
) -> tuple[Carry, Array | None]:
    """Runs a network.

    Args:
      runs: from `stack_runs`.
      owns: their arrays.
      carry: from `first_carry`.
      budget: () or None.
      gates: what replaces the network's decisions, or None.
      way: how to go through a gated segment.
      share: of the batch that passes each gated segment, those of the highest gate logits; None
        where each image decides for itself.
      broken: bool (B,), images that pass last under a `share`, whatever their logits; or None.

    Returns:
      The last carry, and the gate logits (B, N) or None without gated segments. Under a `share`
      they are 1 and -1: what was decided.
    """
    logits: list[Array] = []
    done = 0
    for run, own in zip(runs, owns, strict=True):

        def one(carry: Carry, xs: PyTree, run: Run = run, own: PyTree = own) -> Any:
            i, decided = xs

            def taken() -> PyTree:
                return jax.tree.map(lambda a: a[i], own) if run.length > 1 else own

            code: Any = run.code
            if run.role != "gated":
                return code.open(taken(), carry), None
            z = code.gate(taken(), carry, budget)
            if share is not None:
                ranked = z if broken is None else jnp.where(broken, jnp.nan, z)
                z = jnp.where(highest(ranked, share), 1.0, -1.0).astype(z.dtype)
            opened = z >= 0
            if gates is not None:
                opened = jnp.where(gates.given, decided, opened)
            return way(code, taken, carry, opened), z

        decided = None
        if run.role == "gated":
            if gates is not None:
                decided = jnp.asarray(gates.opened)[:, done : done + run.length].T
            done += run.length
        carry, z = _repeat(one, carry, decided, run.length)
        if z is not None:
            logits.append(z)
    return carry, jnp.concatenate(logits).T if logits else None


def _repeat(
    one: Any, carry: Carry, decided: Array | None, length: int
) -> tuple[Carry, Array | None]:
    """Applies `one` to each segment; in a scan where the carry keeps its shapes."""

    def row(i: int) -> PyTree:
        return i, None if decided is None else decided[i]

    after, _ = jax.eval_shape(lambda carry: one(carry, row(0)), carry)
    if length > 1 and _shapes(after) == _shapes(carry):
        rows = jnp.arange(length), decided
        found: tuple[Carry, Array | None] = lax.scan(one, carry, rows, length=length)
        return found
    logits = []
    for i in range(length):
        carry, z = one(carry, row(i))
        logits.append(z)
    return carry, None if logits[0] is None else jnp.stack(logits)


def masked(code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
    """Both ways for every image, then one of them: the oracle of the ways that skip.

    See `Way`.
    """

    def select(a: Array, b: Array) -> Array:
        return jnp.where(opened.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    arrays = own()
    return jax.tree.map(select, code.open(arrays, carry), code.skip(arrays, carry))  # type: ignore[no-any-return]


def predict_runs(
    runs: Sequence[Run],
    owns: Sequence[PyTree],
    images: Array,
    budget: Array | None,
    gates: Gates,
    keys: Array | None,
    way: Way,
    share: float | None = None,
) -> Prediction:
    """Predicts a batch; see `run_segments`.

    Args:
      runs: from `stack_runs`.
      owns: their arrays.
      images: (B, H, W, channels).
      budget: () or (B,), or None.
      gates: what replaces the network's decisions, or None.
      keys: (B,), where the network is random.
      way: how to go through a gated segment.
      share: of the batch that passes each gated segment, or None.

    Returns:
      The prediction; the logits of an image that is not finite are NaN.
    """
    budgets = None if budget is None else jnp.broadcast_to(budget, len(images))
    carry = first_carry(images, budgets, keys)
    broken = are_broken(images)
    carry, gate_logits = run_segments(runs, owns, carry, budget, gates, way, share, broken)
    earlier = tuple(without_broken(answer, broken) for answer in carry.get("earlier", ()))
    logits = without_broken(carry["logits"], broken)
    return Prediction(logits, gate_logits, carry.get("choice"), earlier=earlier)


def are_broken(images: Array) -> Array:
    """Which images (B, H, W, channels) have a number that is not finite: bool (B,)."""
    return ~jnp.isfinite(images).all((1, 2, 3))


def without_broken(logits: tuple[Array, ...], broken: Array) -> tuple[Array, ...]:
    """The logits (B, classes) of each level, NaN for broken images, bool (B,).

    On some devices a ReLU turns NaN into 0, and a broken image would get a confident answer.
    """
    return tuple(jnp.where(broken[:, None], jnp.nan, level) for level in logits)


def predict_by_segments(
    network: Family,
    variables: Variables,
    images: Array,
    subnet: Subnet,
    budget: Array | float | None,
    key: Array | None = None,
) -> Prediction:
    """`Family.predict` at one operating point, by its segments: both ways through each gated one.

    A budget of None is the one that the point implies, if any.
    """
    runs, owns = stack_runs(network.segments(subnet), variables)
    asked = own_budget(subnet) if budget is None else budget
    # Float32 also under x64: 0.6 must be the number that the draws and the engines pass.
    budgets = None if asked is None else jnp.asarray(asked, jnp.float32)
    return predict_runs(runs, owns, images, budgets, None, key, masked, capacity(subnet))
