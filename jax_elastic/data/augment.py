"""From uint8 images that lie on the device to the batch of one step: pure and jittable.

Every image has a key of its own, folded from the step's key and the image's place in the
global batch, so that the draws do not depend on how the batch is sharded. Integers are drawn
as int32, so that they do not depend on x64 mode either.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_elastic import rng
from jax_elastic.data.colours import jitter
from jax_elastic.data.crops import random_crop, random_resized_crop
from jax_elastic.data.data_config import DataConfig

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
      augment: whether to crop, flip, colour, cut out and mix as `config` says.

    Returns:
      {"image": (B, H, W, C) float32, "targets": one (B, classes) float32 array per label level
      (one-hot, but for MixUp), "mask": (B,) float32 of ones}.
    """
    pixels, chosen = images[ids], labels[ids]
    targets = tuple(
        jax.nn.one_hot(chosen[:, level], count, dtype=jnp.float32)
        for level, count in enumerate(classes)
    )
    mask = jnp.ones(ids.shape, jnp.float32)
    if not augment:
        return {"image": normalise(pixels, config), "targets": targets, "mask": mask}
    crop_key, flip_key, hole_key, mix_key, colour_key = jax.random.split(key, 5)
    pixels = _crop(pixels, crop_key, config)
    pixels = random_flip(pixels, flip_key) if config.flip else pixels
    coloured = jitter(_shares(pixels), colour_key, config.jitter)
    batch = cutout(_standardise(coloured, config), hole_key, config.cutout)
    batch, targets = mixup(batch, targets, mix_key, config.mixup)
    return {"image": batch, "targets": targets, "mask": mask}


def normalise(images: Array, config: DataConfig, dtype: DTypeLike = jnp.float32) -> Array:
    """(pixel / 255 - mean) / std per channel, in float32, then cast.

    Args:
      images: (..., C) uint8.
      config: gives mean and std.
      dtype: of the result.
    """
    return _standardise(_shares(images), config).astype(dtype)


def _shares(pixels: Array) -> Array:
    return pixels.astype(jnp.float32) / 255


def _standardise(shares: Array, config: DataConfig) -> Array:
    mean = jnp.asarray(config.mean, jnp.float32)
    std = jnp.asarray(config.std, jnp.float32)
    return (shares - mean) / std


def _crop(pixels: Array, key: Array, config: DataConfig) -> Array:
    if config.crop == "resized":
        return random_resized_crop(pixels, key)
    return random_crop(pixels, key, config.pad)


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

    return jax.vmap(flip)(images, rng.keys_by_place(key, len(images)))


def cutout(images: Array, key: Array, side: int) -> Array:
    """Zeroes a square of each image; on normalised images that is the mean colour.

    The centre is any pixel, so a part of the square may lie outside.

    Args:
      images: (B, H, W, C), normalised.
      key: of this step's holes.
      side: of the square, in pixels; 0 returns the images untouched.

    Returns:
      The same shape and dtype.

    References:
      DeVries and Taylor 2017; Resizable networks, table 2; docs/choices.md T1.
    """
    if side == 0:
        return images
    _, height, width, _ = images.shape

    def cut(image: Array, image_key: Array) -> Array:
        sizes = jnp.array((height, width), jnp.int32)
        first = jax.random.randint(image_key, (2,), 0, sizes, dtype=jnp.int32) - side // 2
        rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
        inside = (rows >= first[0]) & (rows < first[0] + side)
        inside &= (columns >= first[1]) & (columns < first[1] + side)
        return jnp.where(inside, 0, image)

    return jax.vmap(cut)(images, rng.keys_by_place(key, len(images)))


def mixup(
    images: Array, targets: tuple[Array, ...], key: Array, alpha: float
) -> tuple[Array, tuple[Array, ...]]:
    """Mixes each image, and its targets, with the next one of the batch.

    The batch's order is random, so the next image is a random one. The share lambda of an image
    itself is drawn for each from Beta(alpha, alpha).

    Args:
      images: (B, H, W, C), normalised.
      targets: one (B, classes) per label level.
      key: of this step's shares.
      alpha: of the Beta distribution; 0 returns everything untouched.

    Returns:
      Images and targets of the same shapes and dtypes.

    References:
      Zhang et al. 2018; Resizable networks, table 2; docs/choices.md T2.
    """
    if alpha == 0:
        return images, targets
    # Float32 also under x64, where another number would be drawn.
    draw = partial(jax.random.beta, a=jnp.float32(alpha), b=jnp.float32(alpha), dtype=jnp.float32)
    share = jax.vmap(draw)(rng.keys_by_place(key, len(images)))

    def mix(rows: Array) -> Array:
        own = share.reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)
        return own * rows + (1 - own) * jnp.roll(rows, -1, axis=0)

    return mix(images), tuple(map(mix, targets))
