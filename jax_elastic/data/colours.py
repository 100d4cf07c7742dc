"""Random colours on the device: pure and jittable, each image with a key of its own.

Pixels are shares of the full intensity, in [0, 1], before they are normalised. Each change is that
of torchvision's transforms of the same name on such pixels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_elastic import rng

Array = jax.Array

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601


def jitter(images: Array, key: Array, strengths: tuple[float, ...]) -> Array:
    """Changes brightness, saturation, contrast and hue of each image at random, in this order.

    Args:
      images: (B, H, W, C) float32 in [0, 1]; 3 channels where saturation or hue change.
      key: of this step's colours.
      strengths: b, s, c, h of the four changes. The first three take a factor from
        [1 - strength, 1 + strength), the last a turn from [-strength, strength). What has strength
        0 is left out; () leaves the images untouched.

    Returns:
      The same shape and dtype, in [0, 1].

    References:
      Szegedy et al. 2015, section 6; docs/choices.md T6.
    """
    if not any(strengths):
        return images

    def change(image: Array, image_key: Array) -> Array:
        # Float32 also under x64, where other numbers would be drawn.
        draws = jax.random.uniform(image_key, (len(CHANGES),), jnp.float32, -1, 1)
        for (by, neutral), strength, draw in zip(CHANGES, strengths, draws, strict=True):
            image = by(image, neutral + jnp.float32(strength) * draw) if strength else image
        return image

    return jax.vmap(change)(images, rng.keys_by_place(key, len(images)))


def brighten(image: Array, factor: Array | float) -> Array:
    """Multiplies an image (..., C) in [0, 1]: factor 0 is black, 1 the image."""
    return _blend(image, jnp.zeros_like(image), factor)


def saturate(image: Array, factor: Array | float) -> Array:
    """Moves each pixel of (..., 3) in [0, 1] from its own grey: factor 0 is grey, 1 the image."""
    return _blend(image, _grey(image), factor)


def contrast(image: Array, factor: Array | float) -> Array:
    """Moves an image (H, W, C) in [0, 1] from its mean grey: factor 0 is level, 1 the image.

    The grey of an image that has not 3 channels is their mean.
    """
    return _blend(image, _grey(image).mean(), factor)


def turn_hue(image: Array, turn: Array | float) -> Array:
    """Moves the hue of an image (..., 3) in [0, 1] around its circle: 1/3 makes red green.

    Value and saturation, in the sense of HSV, stay as they are.
    """
    red, green, blue = jnp.moveaxis(image, -1, 0)
    value, least = image.max(-1), image.min(-1)
    chroma = value - least
    scale = jnp.where(chroma > 0, chroma, 1)  # a grey pixel has no hue, and keeps having none
    sixths = jnp.where(
        value == red,
        (green - blue) / scale,
        jnp.where(value == green, 2 + (blue - red) / scale, 4 + (red - green) / scale),
    )
    turned = sixths[..., None] + 6 * turn + jnp.array((5, 3, 1), image.dtype)
    away = jnp.mod(turned, 6)
    there = jnp.clip(jnp.minimum(away, 4 - away), 0, 1)
    return value[..., None] - chroma[..., None] * there


CHANGES: tuple[tuple[Callable[[Array, Array], Array], float], ...] = (
    (brighten, 1.0),
    (saturate, 1.0),
    (contrast, 1.0),
    (turn_hue, 0.0),
)
"""What `jitter` does, in its order: the change, and what leaves an image as it is."""


def _blend(image: Array, other: Array, factor: Array | float) -> Array:
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def _grey(image: Array) -> Array:
    """(..., 1), in [0, 1]."""
    channels = image.shape[-1]
    luma = jnp.array(_LUMA if channels == 3 else (1 / channels,) * channels, image.dtype)
    return (image * luma).sum(-1, keepdims=True)
