from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.data.augment import make_batch, normalise, random_crop, random_flip
from jax_elastic.data.datasets import DataConfig

CONFIG = DataConfig(image_shape=(6, 6, 2), pad=2, flip=True, mean=(0.3, 0.4), std=(0.2, 0.25))
CLASSES = (5, 2)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(1, 256, (12, 6, 6, 2), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.stack([np.arange(12) % 5, np.arange(12) % 2], axis=1).astype(np.int32)


IDS = np.array([3, 0, 3, 11, 7, 7, 1, 2], np.int32)


@partial(jax.jit, static_argnames=("config", "classes", "augment"))
def batch_of(images, labels, ids, seed, config=CONFIG, classes=CLASSES, augment=True):
    return make_batch(images, labels, ids, jax.random.key(seed), config, classes, augment)


def test_a_batch_is_a_function_of_its_key(images, labels):
    first, again, other = (batch_of(images, labels, IDS, seed)["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_batch_is_the_same_in_x64_mode(images, labels):
    expected = batch_of(images, labels, IDS, 0)
    with jax.enable_x64(True):
        found = batch_of(images, labels, IDS, 0)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(
        lambda leaf: leaf.dtype, expected
    )


def test_a_batch_is_the_same_on_one_device_and_on_eight(images, labels):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    sharded = batch_of(*jax.device_put((images, labels), whole), jax.device_put(IDS, rows), 0)
    np.testing.assert_array_equal(sharded["image"], batch_of(images, labels, IDS, 0)["image"])


def test_a_batch_has_the_documented_types_and_shapes(images, labels):
    batch = batch_of(images, labels, IDS, 0)
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), batch)
    assert described == {
        "image": ((8, 6, 6, 2), "float32"),
        "targets": (((8, 5), "float32"), ((8, 2), "float32")),
        "mask": ((8,), "float32"),
    }
    assert batch["mask"].all()


def test_targets_are_the_labels_of_the_ids(images, labels):
    targets = batch_of(images, labels, IDS, 0)["targets"]
    for level, target in enumerate(targets):
        np.testing.assert_array_equal(target.argmax(-1), labels[IDS, level])
        np.testing.assert_array_equal(target.sum(-1), np.ones(len(IDS)))


def test_without_augmentation_a_batch_is_the_normalised_images(images, labels):
    batch = batch_of(images, labels, IDS, 0, augment=False)
    expected = (images[IDS] / 255 - np.array(CONFIG.mean)) / np.array(CONFIG.std)
    # Rounding of three float32 operations on values below 4.
    np.testing.assert_allclose(batch["image"], expected, atol=2e-6)


def test_normalising_to_bfloat16_rounds_the_float32_result(images):
    found = normalise(jnp.asarray(images), CONFIG, jnp.bfloat16)
    np.testing.assert_array_equal(
        found, normalise(jnp.asarray(images), CONFIG).astype(jnp.bfloat16)
    )


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


def test_about_half_of_the_images_are_mirrored_left_to_right():
    count = 400
    images = np.tile(np.arange(3, dtype=np.uint8)[None, None, :, None], (count, 2, 1, 1))
    flipped = np.asarray(random_flip(jnp.asarray(images), jax.random.key(0)))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == images).all((1, 2, 3))).all()
    # Four standard deviations of a fair coin.
    assert abs(mirrored.sum() - count / 2) < 4 * np.sqrt(count) / 2
