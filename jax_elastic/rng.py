"""Every named random stream of the project: (seed, stream, step) -> numbers.

A number drawn anywhere is a function of these three alone, so a restarted run draws what
the interrupted one would have drawn and no generator state is ever saved. The host draws
from Philox, the device from `jax.random` keys; the two never share a stream.
"""

import enum

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

Array = jax.Array


class Stream(enum.IntEnum):
    """Names of the streams. Values are part of what a seed means: append, never renumber."""

    INIT = 0  # parameters
    ORDER = 1  # the permutation of an epoch
    AUGMENT = 2  # crops, flips and the like of a step
    DRAWS = 3  # operating points and budgets of a step
    LOSS = 4  # gate noise inside the loss of a step
    SPLIT = 5  # which training images form the validation split
    PREDICT = 6  # random gates of baselines at test
    POINTS = 7  # which operating points of many are evaluated
    SEARCH = 8  # the points that a search draws, and which images it looks at
    TARGETS = 9  # which training images get a target


def host(seed: int, stream: Stream, *indices: int) -> np.random.Generator:
    """A NumPy generator for one place in a stream, e.g. ``host(seed, Stream.DRAWS, step)``.

    A stream has one fixed number of indices: a missing one would count as 0.
    """
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([seed, int(stream), *indices]))
    )


def device(
    seed: int | Array | np.ndarray, stream: Stream, step: int | Array | np.ndarray = 0
) -> Array:
    """A typed `jax.random` key for one step of a stream; `seed` and `step` may be traced."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), int(stream)), step)


def keys_by_place(key: Array, count: int) -> Array:
    """One key per place in the global batch, the same however devices share it: (count,)."""
    return _fold_each(key, jnp.arange(count, dtype=jnp.int32))


@jax.jit
def image_keys(places: npt.NDArray[np.int32], draw: int | Array = 0) -> Array:
    """One key per image for gates that are random at test, whatever batch an image comes in.

    Args:
      places: (B,), the images' places among all that are asked about.
      draw: which of several draws of the same images.

    Returns:
      (B,).
    """
    return _fold_each(device(0, Stream.PREDICT, draw), places)


def _fold_each(key: Array, places: Array | npt.NDArray[np.int32]) -> Array:
    keys: Array = jax.vmap(lambda place: jax.random.fold_in(key, place))(places)
    return keys
