"""Which way through gated segments is quickest on this device: short trials, run in turn."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Array, Carry
from jax_elastic.elastic.runs import Injected, Run, run_segments
from jax_elastic.elastic.segments import first_carry
from jax_elastic.errors import UsageError
from jax_elastic.inference.timing import interleaved
from jax_elastic.inference.ways import Compacted

PyTree = Any
ROUNDS = 5  # of each trial
TRIED = 4  # blocks of a run that a trial goes through
USAGE = 0.5  # of a trial
# Micro-batches to try: of a batch at least this share, at most that one, by platform. Small ones
# waste less, large ones fill wide hardware, and an accelerator's host is asked before each.
SHARES = {"cpu": (1 / 64, 1 / 4)}
OTHER_SHARES = (1 / 16, 1 / 2)
LARGEST = 256


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What an engine is called with.

    Attributes:
      images: (B, H, W, channels).
      budget: float32 (), or None.
      keys: (B,), or None.
    """

    images: Array
    budget: Array | np.floating[Any] | None = None
    keys: Array | None = None

    def of_size(self, size: int) -> "Inputs":
        """The same for another number of images: repeated, or cut off."""
        if size == len(self.images):
            return self
        places = np.arange(size) % len(self.images)
        keys = None if self.keys is None else self.keys[places]
        return Inputs(self.images[places], self.budget, keys)


def micro_batches(runs: Sequence[Run], owns: Sequence[PyTree], inputs: Inputs) -> Compacted:
    """The quickest micro-batch of each gated segment's code, for a batch that is half open.

    Args:
      runs: of a network at an operating point.
      owns: their arrays.
      inputs: of the batch size in question.

    Raises:
      UsageError: the images are traced.
    """
    if isinstance(inputs.images, jax.core.Tracer):
        raise UsageError(
            "an engine that calibrates itself cannot be called first under jax.jit",
            next_step="call it once outside, or take another engine, for example masked",
        )
    size = len(inputs.images)
    sizes = tried_sizes(size, jax.default_backend())
    found: dict[Any, int] = {}
    budgets = None if inputs.budget is None else jnp.broadcast_to(inputs.budget, size)
    carry = first_carry(inputs.images, budgets, inputs.keys)
    for run, own in zip(runs, owns, strict=True):
        if run.role == "gated" and run.code not in found:
            trial = partial(_trial, run, own, carry, inputs.budget)
            found[run.code] = quickest({micro: trial(Compacted((), micro)) for micro in sizes})
        carry = _like_next(run, own, carry)
    return Compacted(tuple(found.items()))


def tried_sizes(batch: int, platform: str) -> tuple[int, ...]:
    """Powers of two: the micro-batches that a calibration tries, see `SHARES`."""
    least, most = SHARES.get(platform, OTHER_SHARES)
    least = min(least, LARGEST / batch)
    sizes = (2**i for i in range(LARGEST.bit_length()))
    return tuple(size for size in sizes if least * batch <= size <= most * batch) or (1,)


def quickest(trials: dict[int, Callable[[], object]]) -> int:
    """The name of the trial of the least median; of one trial, without a run."""
    if len(trials) == 1:
        return next(iter(trials))
    seconds = interleaved(trials, ROUNDS)
    return min(seconds, key=lambda name: float(np.median(seconds[name])))


def random_gates(size: int, blocks: int, usage: float) -> Array:
    """Gates that are open with probability `usage`, seeded: bool (size, blocks)."""
    drawn = np.random.default_rng(0).uniform(size=(size, blocks))
    return jnp.asarray(drawn < usage)


def _trial(
    run: Run, own: PyTree, carry: Carry, budget: Any, way: Compacted
) -> Callable[[], object]:
    """Goes through the first blocks of a run."""
    length = min(run.length, TRIED)
    own = jax.tree.map(lambda a: a[:length], own) if run.length > 1 else own
    if run.length > 1 and length == 1:
        own = jax.tree.map(lambda a: a[0], own)
    part = run._replace(length=length)
    size = len(jax.tree.leaves(carry)[0])
    gates = Injected(random_gates(size, length, USAGE), jnp.bool_(True))

    @jax.jit
    def through(own: PyTree, carry: Carry) -> Any:
        return run_segments([part], [own], carry, budget, gates, way)

    return lambda: jax.block_until_ready(through(own, carry))


def _like_next(run: Run, own: PyTree, carry: Carry) -> Carry:
    """Noise of the shapes that a run hands on; what it hands on unchanged stays."""
    one = jax.tree.map(lambda a: a[0], own) if run.length > 1 else own
    shapes = jax.eval_shape(run.code.open, one, carry)

    def like(name: str, shape: Any) -> PyTree:
        old = carry.get(name)
        if old is not None and jax.eval_shape(lambda: old) == shape:
            return old
        return jax.tree.map(_noise, shape)

    return {name: like(name, shape) for name, shape in shapes.items()}


def _noise(shape: jax.ShapeDtypeStruct) -> Array:
    # As after a ReLU: numbers far from 1 may take longer.
    drawn = jax.random.normal(jax.random.key(0), shape.shape, jnp.float32)
    return jnp.abs(drawn).astype(shape.dtype)
