"""Engines: one call that runs a trained network at an operating point and a budget."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_elastic.elastic.doors import check_budget, check_statistics
from jax_elastic.elastic.family import Array, Carry, Family, GatedCode, Prediction, Variables
from jax_elastic.elastic.segments import first_carry
from jax_elastic.errors import UsageError
from jax_elastic.inference.runs import Gates, Run, run_segments, stack_runs
from jax_elastic.inference.sequential import sequential
from jax_elastic.subnet import Subnet

PyTree = Any


class Engine:
    """A network ready to predict; built by `build_engine`.

    An operating point is prepared when it is first asked for; jit's cache does the rest.

    Args:
      network: the family.
      variables: its arrays.
      gated: how it goes through a gated segment, see `run_segments`.
      subnets: operating points to prepare now.
    """

    def __init__(
        self,
        network: Family,
        variables: Variables,
        gated: Callable[..., Any],
        subnets: Sequence[Subnet] = (),
    ):
        self._network, self._variables = network, variables
        self._run = _program(gated)
        self._prepared: dict[Subnet, tuple[tuple[Run, ...], tuple[PyTree, ...]]] = {}
        for subnet in subnets:
            self._prepare(subnet)

    def __call__(
        self,
        images: Array,
        subnet: Subnet | None = None,
        budget: float | None = None,
        gates: Array | None = None,
        keys: Array | None = None,
    ) -> Prediction:
        """Predicts a batch.

        Args:
          images: float (B, H, W, channels), normalised as in training.
          subnet: an operating point; None for the fullest.
          budget: the share of the blocks to spend, in [0, 1], for networks that take one.
          gates: bool (B, N) that replace the network's own decisions, for checks.
          keys: (B,), one `jax.random` key per image, for networks whose gates are random.

        Returns:
          The prediction; its gate logits are the network's own even where `gates` replaced them.

        Raises:
          UsageError: an empty batch, a wrong subnet or budget, gates or keys of another shape, or
            BN statistics that were never estimated.
        """
        if images.ndim != 4 or not images.shape[0]:
            raise UsageError(f"images have shape {images.shape}", "(B, H, W, channels) with B > 0")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UsageError(
                f"images are {images.dtype}",
                "floats",
                "normalise them as in training: jax_elastic.data.augment.normalise",
            )
        check_budget(self._network, budget)
        self._check_keys(keys, len(images))
        runs, owns = self._prepare(subnet or self._network.subnets.fullest)
        blocks = sum(run.length for run in runs if run.role == "gated")
        if gates is not None and gates.shape != (len(images), blocks):
            raise UsageError(f"gates have shape {gates.shape}", f"({len(images)}, {blocks}) here")
        asked = None if budget is None else jnp.float32(budget)
        return self._run(runs, owns, images, asked, gates, keys)

    def _check_keys(self, keys: Array | None, size: int) -> None:
        shape = None if keys is None else keys.shape
        wanted = (size,) if self._network.random else None
        if shape != wanted:
            raise UsageError(
                "keys are missing" if keys is None else f"keys have shape {shape}",
                "this network's gates are random" if wanted else "this network draws nothing",
                f"pass jax.random.split(jax.random.key(0), {size})" if wanted else "leave keys out",
            )

    def _prepare(self, subnet: Subnet) -> tuple[tuple[Run, ...], tuple[PyTree, ...]]:
        if subnet not in self._prepared:
            check_statistics(self._network, self._variables, subnet)
            self._prepared[subnet] = stack_runs(self._network.segments(subnet), self._variables)
        return self._prepared[subnet]


@functools.cache  # engines of one kind share what they compile
def _program(gated: Callable[..., Any]) -> Callable[..., Prediction]:
    return jax.jit(partial(_predict, gated=gated), static_argnums=0)


def _predict(
    runs: tuple[Run, ...],
    owns: tuple[PyTree, ...],
    images: Array,
    budget: Array | None,
    gates: Gates,
    keys: Array | None,
    gated: Callable[..., Any],
) -> Prediction:
    budgets = None if budget is None else jnp.broadcast_to(budget, len(images))
    carry = first_carry(images, budgets, keys)
    carry, logits = run_segments(runs, owns, carry, budget, gates, gated)
    return Prediction(carry["logits"], logits, carry.get("choice"))


def masked(code: GatedCode, own: PyTree, carry: Carry, opened: Array) -> Carry:
    """Both ways for every image, then one of them: the oracle of the engines that skip.

    Args:
      code: the segment's computation.
      own: its arrays.
      carry: per-image arrays.
      opened: bool (B,).
    """

    def select(a: Array, b: Array) -> Array:
        return jnp.where(opened.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(select, code.open(own, carry), code.skip(own, carry))  # type: ignore[no-any-return]


ENGINES: dict[str, Callable[..., Carry]] = {"masked": masked, "sequential": sequential}
"""Engine name -> how it goes through a gated segment."""


def build_engine(
    network: Family,
    variables: Variables,
    engine: str = "masked",
    subnets: Sequence[Subnet] | None = None,
) -> Engine:
    """An engine for a trained network.

    `masked` computes every block and chooses afterwards: the oracle of the others, and quick
    where a batch is computed as fast as an image. `sequential` takes gated blocks image by image
    and really skips the closed ones: for single images, and on CPUs. Both are exact.

    Args:
      network: the family.
      variables: its arrays.
      engine: a name in `ENGINES`.
      subnets: operating points to check and prepare now; None for the fullest. Others are
        prepared when they are first asked for.

    Raises:
      UsageError: an unknown engine or operating point, or one whose BN statistics were never
        estimated.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", "one of " + ", ".join(ENGINES))
    wanted = [network.subnets.fullest] if subnets is None else subnets
    return Engine(network, variables, ENGINES[engine], wanted)
