"""Random crops of images on the device: pure and jittable, each image with a key of its own."""

import jax
import jax.numpy as jnp

from jax_elastic import rng

Array = jax.Array

AREA = (0.08, 1.0)
"""Of a random-resized crop, as a share of the image."""
RATIO = (3 / 4, 4 / 3)
"""Of its width to its height."""
TRIES = 10
"""Areas and ratios that are drawn for it, of which the first that fits is taken."""


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

    return jax.vmap(crop)(canvas, rng.keys_by_place(key, len(images)))


def random_resized_crop(images: Array, key: Array) -> Array:
    """Stretches a random part of each image over the whole of it.

    What lies in memory has the size of a batch's images already, so that pixels of a small part
    are enlarged, and nothing is ever shrunk.

    Args:
      images: (B, H, W, C).
      key: of this step's crops.

    Returns:
      (B, H, W, C) float32 in the range of the images.

    References:
      Szegedy et al. 2015, section 6; docs/choices.md T5.
    """
    _, height, width, _ = images.shape

    def crop(image: Array, image_key: Array) -> Array:
        return stretch(image, draw_box(image_key, height, width))

    return jax.vmap(crop)(images, rng.keys_by_place(key, len(images)))


def draw_box(key: Array, height: int, width: int) -> Array:
    """A random part of an image; area is uniform in `AREA`, log ratio in that of `RATIO`.

    Of `TRIES` draws the first counts whose rectangle lies in the image; should none do so, the
    largest of a ratio in `RATIO`. Its place is uniform.

    Args:
      key: of this image.
      height: of the image in pixels.
      width: of the image in pixels.

    Returns:
      (4,) int32: top, left, height, width in pixels.
    """
    shape_key, corner_key = jax.random.split(key)
    # Float32 also under x64, where other numbers would be drawn.
    area, ratio = jax.random.uniform(shape_key, (2, TRIES), jnp.float32)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    low, high = jnp.log(jnp.array(RATIO, jnp.float32))
    ratio = jnp.exp(low + (high - low) * ratio)
    drawn = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio], 1))).astype(jnp.int32)
    largest = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    tried = jnp.concatenate([drawn, jnp.array([largest], jnp.int32)])
    image = jnp.array((height, width), jnp.int32)
    size = tried[jnp.argmax(((tried > 0) & (tried <= image)).all(1))]
    corner = jax.random.randint(corner_key, (2,), 0, image - size + 1, dtype=jnp.int32)
    return jnp.concatenate([corner, size])


def stretch(image: Array, box: Array) -> Array:
    """A rectangle of an image at the image's size: bilinear, half-pixel centres, in float32.

    Nothing outside the rectangle takes part.

    Args:
      image: (H, W, C).
      box: (4,) int32, see `draw_box`.

    Returns:
      (H, W, C) float32.
    """
    height, width, _ = image.shape
    rows, columns = _weights(height, box[0], box[2]), _weights(width, box[1], box[3])
    # Products, because compiled gathers take several times as long on a CPU; at highest precision,
    # or accelerators would round to fewer bits first.
    return jnp.einsum(
        "ri,ijc,kj->rkc",
        rows,
        image.astype(jnp.float32),
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )


def _weights(size: int, first: Array, length: Array) -> Array:
    """(size, size): of each old pixel in each new one; at most two in a row, which add up to 1."""
    new, old = jnp.arange(size, dtype=jnp.float32)[:, None], jnp.arange(size, dtype=jnp.int32)
    place = (new + 0.5) * (length.astype(jnp.float32) / size) - 0.5
    place = jnp.clip(place, 0, (length - 1).astype(jnp.float32))
    return jnp.clip(1 - abs(place - (old - first).astype(jnp.float32)), 0)
