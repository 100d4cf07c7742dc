import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jax_elastic.data.augment import cutout, make_batch, mixup, normalise, random_flip
from jax_elastic.data.colours import jitter
from jax_elastic.data.crops import random_crop, random_resized_crop
from jax_elastic.data.data_config import DataConfig

CONFIG = DataConfig(image_shape=(6, 6, 2), pad=2, flip=True, mean=(0.3, 0.4), std=(0.2, 0.25))
LIGHT = (0.4, 0.0, 0.4, 0.0)
EVERYTHING = dataclasses.replace(CONFIG, crop="resized", pad=0, jitter=LIGHT, cutout=3, mixup=0.4)
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


@pytest.mark.parametrize("config", [CONFIG, EVERYTHING], ids=["crop and flip", "everything"])
def test_a_batch_is_the_same_in_x64_mode(images, labels, config):
    expected = batch_of(images, labels, IDS, 0, config)
    with jax.enable_x64(True):
        found = batch_of(images, labels, IDS, 0, config)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(
        lambda leaf: leaf.dtype, expected
    )


# Crops and flips move pixels. A mean of two values may be rounded once or twice, as the compiler
# fuses it; another draw would differ by more than 1e-2.
@pytest.mark.parametrize(
    "config,tolerance",
    [(CONFIG, 0), (EVERYTHING, 5e-6)],
    ids=["crop and flip", "everything"],
)
def test_a_batch_is_the_same_on_one_device_and_on_eight(images, labels, config, tolerance):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    arrays = jax.device_put((images, labels), whole)
    sharded = batch_of(*arrays, jax.device_put(IDS, rows), 0, config)
    expected = batch_of(images, labels, IDS, 0, config)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), sharded, expected
    )


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


@pytest.mark.parametrize(
    "fields",
    [{"crop": "resized", "pad": 0}, {"jitter": LIGHT}, {"cutout": 3}, {"mixup": 0.4}],
    ids=["resized crop", "jitter", "cutout", "mixup"],
)
def test_a_batch_is_cropped_flipped_coloured_cut_out_and_mixed_in_turn(images, labels, fields):
    config = dataclasses.replace(CONFIG, **fields)
    chosen = jnp.asarray(images[IDS])
    crop_key, flip_key, hole_key, mix_key, colour_key = jax.random.split(jax.random.key(0), 5)
    crop = random_resized_crop if config.crop == "resized" else partial(random_crop, pad=2)
    cropped = jax.jit(crop)(chosen, crop_key)
    coloured = jitter(random_flip(cropped, flip_key) / 255, colour_key, config.jitter)
    cut = cutout(
        (coloured - jnp.array(config.mean)) / jnp.array(config.std), hole_key, config.cutout
    )
    one_hot = tuple(jnp.eye(n)[labels[IDS, level]] for level, n in enumerate(CLASSES))
    expected = mixup(cut, one_hot, mix_key, config.mixup)
    found = batch_of(images, labels, IDS, 0, config)
    # One program rounds in other places than several do.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5e-6),
        (found["image"], found["targets"]),
        expected,
    )
    without = batch_of(images, labels, IDS, 0)["image"]
    assert np.abs(found["image"] - without).max() > 0.1


def test_normalising_to_bfloat16_rounds_the_float32_result(images):
    found = normalise(jnp.asarray(images), CONFIG, jnp.bfloat16)
    np.testing.assert_array_equal(
        found, normalise(jnp.asarray(images), CONFIG).astype(jnp.bfloat16)
    )


def test_about_half_of_the_images_are_mirrored_left_to_right():
    count = 400
    images = np.tile(np.arange(3, dtype=np.uint8)[None, None, :, None], (count, 2, 1, 1))
    flipped = np.asarray(random_flip(jnp.asarray(images), jax.random.key(0)))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == images).all((1, 2, 3))).all()
    # Four standard deviations of a fair coin.
    assert abs(mirrored.sum() - count / 2) < 4 * np.sqrt(count) / 2


def test_cutout_blanks_one_square_that_may_reach_over_the_edge():
    count, side = 200, 4
    images = jnp.ones((count, 6, 8, 2))
    kept = np.asarray(cutout(images, jax.random.key(0), side))
    assert (kept[..., 0] == kept[..., 1]).all()
    holes = kept[..., 0] == 0
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    # A rectangle: as many pixels as its rows times its columns.
    np.testing.assert_array_equal(holes.sum((1, 2)), heights * widths)
    assert set(heights) == set(widths) == {2, 3, 4}
    # Its centre may be any pixel, so every pixel is blank somewhere.
    assert holes.any(0).all()


def test_a_cutout_of_zero_leaves_the_images_alone(images):
    np.testing.assert_array_equal(cutout(images, jax.random.key(0), 0), images)


@pytest.fixture(scope="module")
def mixed():
    """Image i is i everywhere, and its target is class i: shares can be read off."""
    count = 300
    images = jnp.broadcast_to(
        jnp.arange(count, dtype=jnp.float32)[:, None, None, None], (count, 2, 2, 1)
    )
    return mixup(images, (jnp.eye(count),), jax.random.key(0), 0.4)


def test_mixup_mixes_each_image_with_the_next_one_and_targets_alike(mixed):
    images, (targets,) = jax.tree.map(np.asarray, mixed)
    places = np.arange(len(images))
    share = targets[places, places]
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(targets[places, (places + 1) % len(places)], 1 - share, rtol=1e-6)
    expected = share * places + (1 - share) * np.roll(places, -1)
    np.testing.assert_allclose(images[:, 0, 0, 0], expected, rtol=1e-5, atol=1e-4)


def test_the_shares_of_mixup_are_those_of_a_beta_distribution(mixed):
    _, (targets,) = mixed
    share = np.diag(targets)
    # A test at the level of one in a thousand, of one fixed key.
    assert scipy.stats.kstest(share, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(share, scipy.stats.uniform.cdf).pvalue < 1e-3


def test_mixup_of_zero_leaves_everything_alone(images):
    found, (targets,) = mixup(images, (np.eye(12),), jax.random.key(0), 0.0)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(targets, np.eye(12))
