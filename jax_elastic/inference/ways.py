"""Ways through a gated segment: `masked` computes it for every image, the others skip.

What is skipped is not computed: neither its multiplications nor its memory traffic. All give
what `masked` gives (law 1). They differ in what the hardware has to know beforehand:

- `Compacted`: a loop over micro-batches of open images, as long as it takes. One program for all
  patterns; the waste is less than one micro-batch per segment. A micro-batch of 1 is sequential.
- `Bucketed`: one branch of a few, each for a fixed number of images. One decision per segment,
  where a loop asks before every micro-batch (an accelerator's host answers).
- `Gathered`: a fixed number of images, for operating points that fix it.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from jax_elastic.elastic.family import Array, Carry, Code, GatedCode
from jax_elastic.elastic.runs import Own, Way, masked

PyTree = Any
Counts = npt.NDArray[np.int64]
MICRO_BATCH = 8  # images; what ResNets for CIFAR do best with on CPUs


class SkippingWay(Way, Protocol):
    """A way that also tells what it computes."""

    def computed(self, code: Code, opened: Counts, size: int) -> Counts:
        """For how many images a segment is computed.

        Args:
          code: the segment's computation.
          opened: how many images of the batch open it.
          size: B.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Masked:
    """Every image both ways, see `jax_elastic.elastic.runs.masked`."""

    def __call__(self, code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
        """See `Way`."""
        return masked(code, own, carry, opened)

    def computed(self, code: Code, opened: Counts, size: int) -> Counts:
        """See `SkippingWay`: all."""
        del code
        return np.full_like(opened, size)


@dataclasses.dataclass(frozen=True)
class Compacted:
    """The open images in micro-batches.

    Attributes:
      sizes: images of a micro-batch by the segment's code, as pairs.
      default: images of a micro-batch of other segments.
    """

    sizes: tuple[tuple[Code, int], ...] = ()
    default: int = MICRO_BATCH

    def size(self, code: Code, batch: int) -> int:
        """Images of a micro-batch of a segment, at most `batch`."""
        return min(dict(self.sizes).get(code, self.default), batch)

    def __call__(self, code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
        """See `Way`."""
        batch = len(opened)
        if batch == 1:
            # A single image needs no loop around its branch.
            return lax.cond(  # type: ignore[no-any-return]
                opened[0],
                lambda carry: code.open(own(), carry),
                lambda carry: code.skip(own(), carry),
                carry,
            )
        size = self.size(code, batch)
        ids = open_first(opened, -(-batch // size) * size)
        arrays = own()
        before, after = _ways_in(code, arrays, carry)

        def micro_batch(i: Array, after: Carry) -> Carry:
            chosen = lax.dynamic_slice(ids, (i * size,), (size,))
            return _open_chosen(code, arrays, before, after, chosen)

        return lax.fori_loop(0, -(-opened.sum() // size), micro_batch, after)  # type: ignore[no-any-return]

    def computed(self, code: Code, opened: Counts, size: int) -> Counts:
        """See `SkippingWay`: whole micro-batches."""
        micro = self.size(code, size)
        return -(-opened // micro) * micro


@dataclasses.dataclass(frozen=True)
class Bucketed:
    """The open images in the smallest of a few buckets that holds them.

    Attributes:
      buckets: how many there are beside the empty one: even shares of the batch.
    """

    buckets: int = 8

    def capacities(self, batch: int) -> tuple[int, ...]:
        """Images of each bucket, ascending from 0 to `batch`."""
        count = min(self.buckets, batch)
        return tuple(sorted({math.ceil(i * batch / count) for i in range(count + 1)}))

    def __call__(self, code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
        """See `Way`."""
        capacities = self.capacities(len(opened))
        ids = open_first(opened, len(opened))
        arrays = own()
        before, after = _ways_in(code, arrays, carry)

        def bucket(capacity: int, after: Carry) -> Carry:
            return _open_chosen(code, arrays, before, after, ids[:capacity]) if capacity else after

        which = jnp.searchsorted(jnp.array(capacities, jnp.int32), opened.sum(dtype=jnp.int32))
        branches = [partial(bucket, capacity) for capacity in capacities]
        return lax.switch(which, branches, after)  # type: ignore[no-any-return]

    def computed(self, code: Code, opened: Counts, size: int) -> Counts:
        """See `SkippingWay`: the whole bucket."""
        del code
        capacities = np.array(self.capacities(size))
        return capacities[np.searchsorted(capacities, opened)]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """As many images as an operating point lets pass, whatever the batch.

    Attributes:
      passing: how many; no more may be open.
    """

    passing: int

    def __call__(self, code: GatedCode, own: Own, carry: Carry, opened: Array) -> Carry:
        """See `Way`."""
        arrays = own()
        before, after = _ways_in(code, arrays, carry)
        return _open_chosen(code, arrays, before, after, open_first(opened, self.passing))

    def computed(self, code: Code, opened: Counts, size: int) -> Counts:
        """See `SkippingWay`: those that pass."""
        del code, size
        return np.full_like(opened, self.passing)


def open_first(opened: Array, length: int) -> Array:
    """The places of the open images, ascending, then places outside of the batch, all different.

    Args:
      opened: bool (B,).
      length: at least as many as are open.

    Returns:
      int32 (length,).
    """
    (ids,) = jnp.nonzero(opened, size=length, fill_value=0)
    places = jnp.arange(length, dtype=jnp.int32)
    inside = places < opened.sum(dtype=jnp.int32)
    return jnp.where(inside, ids.astype(jnp.int32), len(opened) + places)


def _ways_in(code: GatedCode, own: PyTree, carry: Carry) -> tuple[Callable[[Carry], Carry], Carry]:
    """Where `open` reads the images from, given what was written so far; and all images closed.

    Arrays that the shortcut hands on as they are are read and written in one place: an image is
    opened once, so it is read before it is written, and nothing is copied.
    """
    closed = code.skip(own, carry)
    same = {name for name, array in closed.items() if array is carry.get(name)}

    def before(after: Carry) -> Carry:
        return {name: after[name] if name in same else array for name, array in carry.items()}

    return before, closed


def _open_chosen(
    code: GatedCode,
    own: PyTree,
    before: Callable[[Carry], Carry],
    after: Carry,
    chosen: Array,
) -> Carry:
    """Opens the segment for chosen images, int (n,); what lies outside of the batch is no image."""

    def gather(array: Array) -> Array:
        return array.at[chosen].get(mode="clip")  # what is no image reads one, and is not written

    def scatter(array: Array, rows: Array) -> Array:
        return array.at[chosen].set(rows, mode="drop", unique_indices=True)

    read = jax.tree.map(gather, before(after))
    found = code.open(own, read)
    changed = [name for name, rows in found.items() if rows is not read.get(name)]
    written = {name: jax.tree.map(scatter, after[name], found[name]) for name in changed}
    return {**after, **written}
