"""Crops: what they take of an image, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from jax_elastic.data.crops import (
    AREA,
    RATIO,
    draw_box,
    random_crop,
    random_resized_crop,
    stretch,
)

COUNT, HEIGHT, WIDTH = 2000, 96, 64
crop = jax.jit(random_resized_crop)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(1, 256, (12, 6, 6, 2), dtype=np.uint8)


@pytest.fixture(scope="module")
def boxes():
    """(COUNT, 4): top, left, height, width."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    return np.asarray(jax.jit(jax.vmap(lambda key: draw_box(key, HEIGHT, WIDTH)))(keys))


def test_a_crop_is_a_window_of_the_image_on_black(images):
    pad = 2
    crops = np.asarray(random_crop(jnp.asarray(images), jax.random.key(0), pad))
    canvas = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(canvas, (6, 6), axis=(1, 2))
    windows = np.moveaxis(windows, 3, -1)  # (N, 5, 5, 6, 6, C)
    assert (windows == crops[:, None, None]).all((-1, -2, -3)).any((1, 2)).all()


def test_every_shift_within_the_pad_occurs_and_none_beyond():
    dot = np.zeros((400, 5, 5, 1), np.uint8)
    dot[:, 2, 2] = 1
    crops = np.asarray(random_crop(jnp.asarray(dot), jax.random.key(0), 1))
    places = {(int(row), int(column)) for _, row, column, _ in np.argwhere(crops)}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_pad_zero_leaves_the_images_alone(images):
    np.testing.assert_array_equal(random_crop(images, jax.random.key(0), 0), images)


def drawn_one_by_one(rng):
    """Height and width of a box, as the definition says it: draw until it fits, ten times."""
    for _ in range(10):
        area = HEIGHT * WIDTH * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        height, width = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if height <= HEIGHT and width <= WIDTH:
            return height, width
    return min(HEIGHT, round(WIDTH / RATIO[0])), min(WIDTH, round(HEIGHT * RATIO[1]))


def test_a_box_lies_in_the_image_and_keeps_area_and_ratio(boxes):
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert (height > 0).all() and (width > 0).all()
    assert (top + height <= HEIGHT).all() and (left + width <= WIDTH).all()
    # A side is rounded by half a pixel at most.
    assert ((height + 0.5) * (width + 0.5) >= AREA[0] * HEIGHT * WIDTH).all()
    assert ((width + 0.5) / (height - 0.5) >= RATIO[0]).all()
    assert ((width - 0.5) / (height + 0.5) <= RATIO[1]).all()


@pytest.mark.parametrize("of", [np.prod, lambda size, axis: size[:, 1] / size[:, 0]])
def test_sizes_are_spread_as_if_drawn_one_by_one(boxes, of):
    rng = np.random.default_rng(1)
    expected = np.array([drawn_one_by_one(rng) for _ in range(COUNT)])
    # A test at the level of one in a thousand, of one fixed key.
    assert scipy.stats.ks_2samp(of(boxes[:, 2:], axis=1), of(expected, axis=1)).pvalue > 1e-3


def test_places_are_uniform_among_those_that_fit(boxes):
    free = np.array((HEIGHT, WIDTH)) - boxes[:, 2:]
    # The middle of each whole number's share of [0, 1].
    share = ((boxes[:, :2] + 0.5) / (free + 1))[free > 20]
    assert scipy.stats.kstest(share, scipy.stats.uniform.cdf).pvalue > 1e-3


def test_an_image_too_narrow_for_any_draw_gives_its_largest_part():
    keys = jax.random.split(jax.random.key(0), 50)
    found = np.asarray(jax.jit(jax.vmap(lambda key: draw_box(key, 40, 1)))(keys))
    np.testing.assert_array_equal(found[:, 2:], np.tile([1, 1], (50, 1)))
    assert len(set(found[:, 0])) > 10


@pytest.mark.parametrize("box", [(0, 0, 9, 7), (2, 1, 4, 6), (3, 3, 1, 1), (0, 5, 9, 2)])
def test_a_stretched_box_is_that_of_pillow(box):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 2), dtype=np.uint8)
    top, left, height, width = box
    planes = [
        Image.fromarray(image[..., channel].astype(np.float32))
        .crop((left, top, left + width, top + height))
        .resize((7, 9), Image.Resampling.BILINEAR)
        for channel in range(2)
    ]
    found = jax.jit(stretch)(image, jnp.array(box, jnp.int32))
    assert found.dtype == jnp.float32
    # Float32 of values up to 255; another pixel or weight would differ by more than 1.
    np.testing.assert_allclose(found, np.stack(planes, axis=-1), atol=1e-4)


def test_the_whole_image_is_stretched_to_itself(images):
    found = stretch(jnp.asarray(images[0]), jnp.array((0, 0, 6, 6), jnp.int32))
    np.testing.assert_array_equal(found, images[0])


def test_resized_crops_have_the_images_shape_and_range(images):
    found = np.asarray(crop(images, jax.random.key(0)))
    assert found.shape == images.shape
    assert found.dtype == np.float32
    # A mean of four values may round past them by the last bits.
    low, high = images.min((1, 2)), images.max((1, 2))
    assert (found.min((1, 2)) >= low - 1e-4).all()
    assert (found.max((1, 2)) <= high + 1e-4).all()
    assert (found != images).any((1, 2, 3)).all()


def test_a_place_in_the_batch_has_its_own_crop_whatever_follows(images):
    key = jax.random.key(0)
    np.testing.assert_array_equal(crop(images, key)[:4], crop(images[:4], key))
    same = np.tile(images[:1], (12, 1, 1, 1))
    assert len(np.unique(crop(same, key), axis=0)) > 4
