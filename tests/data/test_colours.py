"""Colours: each change against another library, and what all of them keep."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jax_elastic.data.colours import brighten, contrast, jitter, saturate, turn_hue

INCEPTION = (0.4, 0.4, 0.4, 0.1)
jitted = jax.jit(jitter, static_argnames="strengths")
CHANGES = {"brighten": brighten, "saturate": saturate, "contrast": contrast, "turn_hue": turn_hue}


@pytest.fixture(scope="module")
def pixels():
    """Colours of all kinds, and greys, which have no hue."""
    drawn = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    drawn[0] = drawn[0, :, :1]
    drawn[1, 0], drawn[1, 1] = 0, 255
    return drawn


@pytest.fixture(scope="module")
def batch():
    return jnp.asarray(np.random.default_rng(1).random((8, 4, 5, 3), np.float32))


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    "change,enhancer",
    [
        (brighten, ImageEnhance.Brightness),
        (saturate, ImageEnhance.Color),
        (contrast, ImageEnhance.Contrast),
    ],
)
def test_a_change_is_that_of_pillow(pixels, change, enhancer, factor):
    expected = np.asarray(enhancer(Image.fromarray(pixels)).enhance(factor)) / 255
    found = jax.jit(change)(jnp.asarray(pixels, jnp.float32) / 255, factor)
    # Pillow rounds greys, and then the result, to whole 255ths.
    np.testing.assert_allclose(found, expected, atol=1.6 / 255)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.07, 1 / 3])
def test_a_turned_hue_is_that_of_the_standard_library(pixels, turn):
    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)

    expected = np.apply_along_axis(turned, -1, pixels / 255)
    found = jax.jit(turn_hue)(jnp.asarray(pixels, jnp.float32) / 255, turn)
    # Some float32 roundings of values up to 6.
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_a_third_of_a_turn_makes_red_green():
    np.testing.assert_allclose(turn_hue(jnp.array([1.0, 0.0, 0.0]), 1 / 3), [0, 1, 0], atol=1e-6)


def test_no_strength_leaves_the_images_alone(batch):
    key = jax.random.key(0)
    assert jitter(batch, key, ()) is batch
    assert jitter(batch, key, (0.0, 0.0, 0.0, 0.0)) is batch


@pytest.mark.parametrize("kind", range(4), ids=CHANGES)
def test_a_strength_changes_every_image_by_its_own_kind_alone(batch, kind):
    strengths = tuple(0.4 if place == kind else 0.0 for place in range(4))
    change = list(CHANGES.values())[kind]
    neutral = 0.0 if change is turn_hue else 1.0
    key = jax.random.key(0)
    found = np.asarray(jitted(batch, key, strengths))
    draws = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (4,), minval=-1))
    by = neutral + 0.4 * draws(jnp.arange(8))[:, kind]
    # One program rounds in other places than several do.
    np.testing.assert_allclose(found, jax.vmap(change)(batch, by), atol=3e-6)
    assert (found != batch).any((1, 2, 3)).all()


def test_changed_colours_keep_shape_and_range_and_differ_between_images(batch):
    same = jnp.tile(batch[:1], (64, 1, 1, 1))
    found = np.asarray(jitted(same, jax.random.key(0), INCEPTION))
    assert found.shape == same.shape
    assert found.dtype == np.float32
    assert (found >= 0).all() and (found <= 1).all()
    assert len(np.unique(found, axis=0)) == 64


def test_grey_images_take_brightness_and_contrast():
    grey = jnp.asarray(np.random.default_rng(2).random((4, 5, 5, 1), np.float32))
    found = jitted(grey, jax.random.key(0), (0.4, 0.0, 0.4, 0.0))
    as_rgb = jitted(jnp.tile(grey, 3), jax.random.key(0), (0.4, 0.0, 0.4, 0.0))
    np.testing.assert_allclose(jnp.tile(found, 3), as_rgb, atol=1e-6)


def test_a_place_in_the_batch_has_its_own_colours_whatever_follows(batch):
    key = jax.random.key(0)
    whole, part = (jitted(images, key, INCEPTION) for images in (batch, batch[:4]))
    np.testing.assert_allclose(whole[:4], part, atol=1e-6)


def test_colours_are_the_same_in_x64_mode(batch):
    key = jax.random.key(0)
    expected = jitted(batch, key, INCEPTION)
    with jax.enable_x64(True):
        found = jitted(batch, key, INCEPTION)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
