"""BN statistics of one operating point, estimated anew from images.

In training the statistics of a bank follow the last steps, and what they average are many operating
points that share the bank. Here they become those of one point over all given images; parameters
stay as they are.

References:
  Resizable networks calls its banks "BN calibration"; this is the other use of the word, as in
  Yu and Huang 2019 (universally slimmable networks). See docs/choices.md R12.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, Sharding

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.doors import (
    check_budget,
    check_images,
    check_variables,
    naming_channels,
)
from jax_elastic.elastic.family import Array, Family, PyTree, Variables
from jax_elastic.elastic.reads import statistics_read, unestimated
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import fold, pool
from jax_elastic.subnet import Subnet
from jax_elastic.training.mesh import replicated, sharded

BATCH_SIZE = 200  # divides the customary 10,000 images


def recalibrate(
    network: Family,
    variables: Variables,
    subnet: Subnet,
    images: Array | np.ndarray,
    *,
    budget: float | None = None,
    batch_size: int = BATCH_SIZE,
    data: DataConfig | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Variables:
    """Estimates the BN statistics of exactly one operating point.

    Each batch is normalised by itself, as in training; gates are those of test. The statistics are
    the mean and the variance over the images of all batches. So neither the order of the batches
    nor the devices matter, but for rounding. The size of a batch does, behind the first BN layer:
    take one as large as in training, or larger.

    Args:
      network: the family.
      variables: its arrays, concrete.
      subnet: the operating point.
      images: float (N, H, W, channels), normalised as in training; or uint8, with `data`.
      budget: the share of the blocks to spend, for networks that take one.
      batch_size: images that are normalised together; it divides N, for a padded image would be
        seen by BN, and a smaller batch would weigh more than its images.
      data: how uint8 images are normalised, batch by batch.
      seed: of gates that are random; image i draws from (seed, i).
      mesh: devices that share each batch; None for the default device.

    Returns:
      The variables with other statistics where the operating point reads them, and there one more
      update in each `count`. What other points read, and all parameters, are as they were; where
      they share a bank with this one, its new statistics are theirs, too.

    Raises:
      UsageError: the network does not have that operating point or those arrays; it has no
        statistics of its own, or reads others that were never estimated; a wrong budget; images of
        other shapes, or of channels that the network was not made for; batches that do not come
        out even; or activations that are not finite.
    """
    network.check(subnet)
    check_budget(network, budget, subnet)
    check_variables(network, variables)
    _check(images, batch_size, data, mesh)
    read = statistics_read(network, variables, subnet)
    if not jax.tree.leaves(read):
        raise UsageError("this network has no BN statistics", next_step="use it as it is")
    asked = None if budget is None else jnp.float32(budget)
    placed = _place(variables, None if mesh is None else replicated(mesh))

    def passes() -> Iterator[PyTree]:
        for start in range(0, len(images), batch_size):
            places = np.arange(start, start + batch_size, dtype=np.int32)
            batch = jnp.asarray(images[start : start + batch_size])
            given = (
                batch if data is None else normalise(batch, data),
                rng.image_keys(places, seed) if network.random else None,
            )
            batch, keys = _place(given, None if mesh is None else sharded(mesh))
            with naming_channels(network, variables, batch):
                found = _moments(network, placed, batch, subnet, asked, keys)
            yield jax.device_get(found)

    moments = pool(passes())
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moments)):
        raise UsageError(
            f"activations at {subnet} are not finite, so they have no statistics",
            next_step="look at how its training ended, and at the images",
        )
    folded = fold(variables["stats"], moments, momentum=0)
    stats = jax.tree.map(jnp.where, read, folded, variables["stats"])
    estimated: Variables = {"params": variables["params"], "stats": stats}
    name = unestimated(network, estimated, subnet)
    if name is not None:
        raise UsageError(
            f"operating point {subnet} also reads BN statistics (segment {name}) that are not its "
            "own to estimate, and that were never estimated",
            next_step="start training from a run that has them (config.init_from), or estimate "
            "them at the operating points that have them",
        )
    return estimated


def whole_batches(size: int, batch_size: int, most: int) -> int:
    """How many images there are in whole batches, of a set of `size` at `most`.

    Raises:
      UsageError: not one.
    """
    found = min(size, most) // batch_size * batch_size
    if not found:
        raise UsageError(
            f"{min(size, most)} images do not fill a batch of {batch_size}",
            next_step="take a smaller batch_size",
        )
    return found


def shared_batch_size(devices: int) -> int:
    """The largest batch up to `BATCH_SIZE` that so many devices can share; an image each at least.

    Args:
      devices: how many, 1 or more.
    """
    return max(BATCH_SIZE // devices, 1) * devices


@partial(jax.jit, static_argnums=(0, 3))
def _moments(
    network: Family,
    variables: Variables,
    images: Array,
    subnet: Subnet,
    budget: Array | None,
    keys: Array | None,
) -> PyTree:
    """Compiled once for a network and an operating point."""
    return network.moments(variables, images, subnet, budget, keys)


def _place(tree: Any, sharding: Sharding | None) -> Any:
    """Arrays on the devices of a sharding; where they are without one."""
    return tree if sharding is None else jax.device_put(tree, sharding)


def _check(
    images: Array | np.ndarray, batch_size: int, data: DataConfig | None, mesh: Mesh | None
) -> None:
    if data is None:
        check_images(images)  # type: ignore[arg-type]
    elif images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise UsageError(
            f"images are {images.dtype} of shape {images.shape}",
            "uint8 (N, H, W, channels) with N > 0",
            "leave data out where they are normalised",
        )
    size, devices = len(images), 1 if mesh is None else mesh.devices.size
    if batch_size < 1 or size % batch_size:
        raise UsageError(
            f"{size} images cannot be cut into batches of {batch_size}",
            "batches of one size, for each image counts as much as the others",
            f"take a batch_size that divides {size}, or other images",
        )
    if batch_size % devices:
        raise UsageError(
            f"batch_size {batch_size} cannot be shared by {devices} devices",
            f"a multiple of {devices}",
        )
