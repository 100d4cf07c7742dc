"""From uint8 images that lie on the device to the batch of one step: pure and jittable.

Every image has a key of its own, folded from the step's key and the image's place in the
global batch, so that the draws do not depend on how the batch is sharded. Integers are drawn
as int32, so that they do not depend on x64 mode either.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_elastic.data.datasets import DataConfig

Array = jax.Array
Batch = dict[str, Array | tuple[Array, ...]]


def make_batch(
    images: Array,
    labels: Array,
    ids: Array,
    key: Array,
    config: DataConfig,
    classes: tuple[int, ...],
    augment: bool = True,
) -> Batch:
    """Gathers, augments and normalises the images of one step.

    Args:
      images: (N, H, W, C) uint8, the whole split.
      labels: (N, levels) int32.
      ids: (B,) int32 indices of the step's images.
      key: of the step; read only where `augment` is set.
      config: the augmentation and the normalisation.
      classes: number of classes of each label level.
      augment: whether to crop and flip as `config` says.

    Returns:
      {"image": (B, H, W, C) float32, "targets": one (B, classes) float32 one-hot array per
      label level, "mask": (B,) float32 of ones}.
    """
    batch, chosen = images[ids], labels[ids]
    if augment:
        crop_key, flip_key = jax.random.split(key)
        batch = random_crop(batch, crop_key, config.pad)
        batch = random_flip(batch, flip_key) if config.flip else batch
    targets = tuple(
        jax.nn.one_hot(chosen[:, level], count, dtype=jnp.float32)
        for level, count in enumerate(classes)
    )
    mask = jnp.ones(ids.shape, jnp.float32)
    return {"image": normalise(batch, config), "targets": targets, "mask": mask}


def normalise(images: Array, config: DataConfig, dtype: DTypeLike = jnp.float32) -> Array:
    """(pixel / 255 - mean) / std per channel, in float32, then cast.

    Args:
      images: (..., C) uint8.
      config: gives mean and std.
      dtype: of the result.
    """
    mean = jnp.asarray(config.mean, jnp.float32)
    std = jnp.asarray(config.std, jnp.float32)
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def random_crop(images: Array, key: Array, pad: int) -> Array:
    """Shifts each image by up to `pad` pixels along each axis; black comes in from outside.

    Args:
      images: (B, H, W, C).
      key: of this step's crops.
      pad: largest shift in pixels; 0 returns the images untouched.

    Returns:
      The same shape and dtype.
    """
    if pad == 0:
        return images
    canvas = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def crop(image: Array, image_key: Array) -> Array:
        corner = jax.random.randint(image_key, (2,), 0, 2 * pad + 1, dtype=jnp.int32)
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], jnp.int32(0)), images.shape[1:])

    return jax.vmap(crop)(canvas, _image_keys(key, len(images)))


def random_flip(images: Array, key: Array) -> Array:
    """Mirrors each image left to right with probability 1/2.

    Args:
      images: (B, H, W, C).
      key: of this step's flips.

    Returns:
      The same shape and dtype.
    """

    def flip(image: Array, image_key: Array) -> Array:
        coin = jax.random.randint(image_key, (), 0, 2, dtype=jnp.int32)
        return jnp.where(coin == 1, image[:, ::-1], image)

    return jax.vmap(flip)(images, _image_keys(key, len(images)))


def _image_keys(key: Array, count: int) -> Array:
    """(count,) one key per place in the global batch."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(
        jnp.arange(count, dtype=jnp.int32)
    )
