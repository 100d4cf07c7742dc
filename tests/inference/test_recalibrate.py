"""Recalibrated statistics: of one point, from all images alike, and those that inference uses."""

import dataclasses

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.reads import statistics_read, unestimated, without_others
from jax_elastic.errors import UsageError
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.recalibrate import (
    _moments,
    recalibrate,
    shared_batch_size,
    whole_batches,
)
from jax_elastic.subnet import Subnet
from jax_elastic.training.mesh import make_mesh

NET = families.SMALL["resizable"]
LOW, FULL = Subnet("resolution", (0.5, 0.5)), Subnet("resolution", (1, 1))
MIXED = Subnet("resolution", (1, 0.5))
PREDICT = jax.jit(lambda network, *args: network.predict(*args), static_argnums=(0, 3))
IMAGES = warm.random_images(16)
# One of each kind of network is enough for every run of the tests.
QUICK = ("urnet", "random_drop", "external", "exits", "resizable", "toy")
EVERY = [
    pytest.param(name, id=name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in families.ALL
]


def budget_of(network):
    return 0.5 if network.budgets else None


def leaves(tree):
    """Path -> leaf, as NumPy."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in pairs}


def assert_close(found, expected, rtol):
    for path, leaf in leaves(found).items():
        np.testing.assert_allclose(leaf, leaves(expected)[path], rtol, rtol, err_msg=path)


@pytest.fixture(scope="module")
def low():
    """The small network as it starts, and recalibrated at the lowest resolution."""
    fresh = warm.random_weights(NET)
    return fresh, recalibrate(NET, fresh, LOW, IMAGES, batch_size=8)


@pytest.mark.parametrize("name", EVERY)
def test_a_fresh_network_of_any_family_runs_at_the_recalibrated_point(name):
    network = families.ALL[name]
    fresh, point = warm.random_weights(network), network.subnets.cheapest
    found = recalibrate(network, fresh, point, IMAGES, budget=budget_of(network), batch_size=8)

    check_statistics(network, found, point)
    chex.assert_trees_all_equal(found["params"], fresh["params"])
    read = leaves(statistics_read(network, fresh, point))
    before, after = leaves(fresh["stats"]), leaves(found["stats"])
    assert any(mask.any() for mask in read.values())
    for path, mask in read.items():
        np.testing.assert_array_equal(after[path][~mask], before[path][~mask])
        # Counts of 0 and variances of 1 are neither any more; channels that only pad keep mean 0.
        changed = after[path][mask] != before[path][mask]
        assert changed.any() if mask.any() and "mean" in path else changed.all(), path


def test_banks_of_other_scales_keep_every_bit(low):
    before, after = (leaves(variables["stats"]) for variables in low)
    for path, leaf in before.items():
        banks = -1 if "count" in path else -2
        if "stem" not in path:
            here, there = np.take(leaf, 1, banks), np.take(after[path], 1, banks)
            np.testing.assert_array_equal(here, there)
            assert (np.take(leaf, 0, banks) != np.take(after[path], 0, banks)).all()
    with pytest.raises(UsageError, match="never estimated"):
        check_statistics(NET, low[1], MIXED)


def test_with_one_batch_running_statistics_are_those_of_the_batch():
    network = dataclasses.replace(NET, dtype="float64")
    with jax.enable_x64(True):
        variables = warm.cast(warm.random_weights(NET), "float64")
        images = jnp.asarray(IMAGES, "float64")

        @jax.jit
        def by_batch(variables):
            carry = {"image": images}
            for segment in network.segments(MIXED):
                own, key = segment.take(variables), jax.random.key(0)
                carry, _ = segment.code.train(own, carry, key, "batch")
            return carry["logits"][0]

        found = recalibrate(network, variables, MIXED, images, batch_size=len(images))
        (prediction,) = PREDICT(network, found, images, (MIXED,), None)
        np.testing.assert_allclose(prediction.logits[0], by_batch(variables), 1e-10, 1e-10)


def test_gates_of_a_recalibrated_network_are_those_of_test_and_not_of_training():
    network = dataclasses.replace(families.SMALL["urnet"], p=1.0)  # all soft in training
    fresh = warm.random_weights(network)
    found = recalibrate(network, fresh, network.subnets.fullest, IMAGES, budget=0.5, batch_size=16)
    hard = dataclasses.replace(network, p=0.0)
    expected = recalibrate(hard, fresh, hard.subnets.fullest, IMAGES, budget=0.5, batch_size=16)
    assert_close(found["stats"], expected["stats"], 1e-6)


def test_random_gates_are_drawn_by_seed():
    network, point = families.SMALL["random_drop"], families.SMALL["random_drop"].subnets.fullest
    fresh = warm.random_weights(network)

    def stats(seed):
        found = recalibrate(network, fresh, point, IMAGES, budget=0.5, batch_size=8, seed=seed)
        return leaves(found["stats"])

    first, again, other = stats(0), stats(0), stats(1)
    assert all((first[path] == again[path]).all() for path in first)
    assert any((first[path] != other[path]).any() for path in first)


def test_recalibrated_statistics_are_the_ones_that_inference_uses(low):
    shifted = 3 * IMAGES + 2
    there = recalibrate(NET, low[0], LOW, shifted, batch_size=8)
    answers = []
    for variables in (low[1], there):
        (prediction,) = PREDICT(NET, variables, jnp.asarray(shifted), (LOW,), None)
        engine = build_engine(NET, variables, subnets=(LOW,))
        answers.append(prediction.logits[0])
        np.testing.assert_allclose(
            engine(jnp.asarray(shifted), LOW).logits[0], answers[-1], rtol=1e-5, atol=1e-5
        )
    assert np.abs(answers[0] - answers[1]).max() > 0.1
    # The stem's BN sees pixels through one convolution: its mean is what the images' shift says.
    moved = leaves(there["stats"])["['stem']['bn']['mean']"]
    assert np.abs(moved - leaves(low[1]["stats"])["['stem']['bn']['mean']"]).max() > 0.1


@pytest.mark.parametrize("order", [(1, 0), (1, 2, 3, 0), (3, 1, 0, 2)])
def test_the_order_of_the_batches_does_not_matter(order):
    fresh, size = warm.random_weights(NET), 8
    images = warm.random_images(size * len(order))
    shuffled = images.reshape(len(order), size, *images.shape[1:])[list(order)]
    found = recalibrate(NET, fresh, LOW, shuffled.reshape(images.shape), batch_size=size)
    expected = recalibrate(NET, fresh, LOW, images, batch_size=size)
    assert_close(found["stats"], expected["stats"], 1e-6)


def test_it_does_not_matter_to_the_first_layer_which_images_share_a_batch():
    fresh, images = warm.random_weights(NET), warm.random_images(32)
    order = np.random.default_rng(0).permutation(len(images))
    found = recalibrate(NET, fresh, LOW, images[order], batch_size=8)["stats"]["stem"]
    expected = recalibrate(NET, fresh, LOW, images, batch_size=8)["stats"]["stem"]
    assert_close(found, expected, 1e-5)  # each batch adds up in float32


@pytest.mark.parametrize("name", ["resizable", "random_drop"])
def test_the_devices_do_not_matter(name):
    network = families.SMALL[name]
    fresh, point = warm.random_weights(network), network.subnets.cheapest
    how = {"budget": budget_of(network), "batch_size": 8}
    found = recalibrate(network, fresh, point, IMAGES, mesh=make_mesh(), **how)
    expected = recalibrate(network, fresh, point, IMAGES, **how)
    # Eight devices add in another order, in float32.
    assert_close(found["stats"], expected["stats"], 1e-5)
    check_statistics(network, found, point)


def test_statistics_that_were_there_are_forgotten_and_the_count_goes_up(low):
    others = recalibrate(NET, low[0], LOW, 3 * IMAGES + 2, batch_size=8)
    again = recalibrate(NET, others, LOW, IMAGES, batch_size=8)
    expected, there = leaves(low[1]["stats"]), leaves(others["stats"])
    for path, leaf in leaves(again["stats"]).items():
        if "count" in path:
            assert leaf.max() == 2
            np.testing.assert_array_equal(leaf, 2 * expected[path])
        else:
            assert (there[path] != expected[path]).any()
            np.testing.assert_array_equal(leaf, expected[path])


def test_a_network_for_one_point_alone_is_the_same_there_and_refused_elsewhere():
    trained = warm.warmed(NET)
    assert [unestimated(NET, trained, point) for point in (LOW, MIXED, FULL)] == [None] * 3

    alone = without_others(NET, trained, LOW)

    for (_, own), (_, other) in zip(NET.stretches(LOW), NET.stretches(LOW), strict=True):
        chex.assert_trees_all_equal(own(alone), other(trained))
    assert unestimated(NET, alone, LOW) is None
    assert None not in (unestimated(NET, alone, MIXED), unestimated(NET, alone, FULL))
    chex.assert_trees_all_equal(alone["params"], trained["params"])


def test_raw_images_are_normalised_batch_by_batch():
    data = DataConfig("none", (8, 8, 3), mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))
    raw = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    fresh = warm.random_weights(NET)
    found = recalibrate(NET, fresh, LOW, raw, batch_size=8, data=data)
    ready = np.asarray(normalise(jnp.asarray(raw), data))
    expected = recalibrate(NET, fresh, LOW, ready, batch_size=8)
    assert_close(found["stats"], expected["stats"], 1e-6)


def test_more_batches_are_no_more_programs(low):
    compiled = _moments._cache_size()
    recalibrate(NET, low[0], LOW, warm.random_images(40), batch_size=8)
    assert _moments._cache_size() == compiled


@pytest.mark.parametrize(
    ("name", "subnet", "how", "message"),
    [
        ("resizable", "resolution:0.7,1", {}, r"does not fit .* each v from \{0.5, 1\}"),
        ("resizable", "resolution:1,1,1", {}, r"does not fit .* it takes resolution:v,v"),
        ("resizable", "resolution:1,1", {"budget": 0.5}, "takes no budget"),
        ("resizable", "resolution:1,1", {"batch_size": 5}, "16 images cannot be cut .* of 5"),
        ("resizable", "resolution:1,1", {"batch_size": 0}, "16 images cannot be cut .* of 0"),
        ("resizable", "resolution:1,1", {"batch_size": 4, "mesh": 8}, "cannot be shared by 8 dev"),
        ("urnet", "full", {}, "needs a budget"),
        ("urnet", "full", {"budget": 1.5}, r"outside \[0, 1\]"),
        ("urnet", "blocks:1,0,1,1,0", {}, "no BN statistics of its own; .* those of full; recal"),
    ],
)
def test_what_cannot_be_recalibrated_is_refused(name, subnet, how, message):
    network = families.SMALL[name]
    mesh = make_mesh() if "mesh" in how else None
    options = {"batch_size": 8, **how, "mesh": mesh}
    with pytest.raises(UsageError, match=message):
        recalibrate(network, warm.random_weights(network), Subnet.parse(subnet), IMAGES, **options)


@pytest.mark.parametrize(
    ("images", "data", "message"),
    [
        (IMAGES[0], None, r"\(B, H, W, channels\)"),
        (IMAGES.astype(np.uint8), None, "images are uint8; floats"),
        (IMAGES, DataConfig(), "images are float32 .* uint8 .* leave data out"),
        (IMAGES[..., :1], None, "channels of images is 1; 3 for this network"),
        (np.full_like(IMAGES, np.nan), None, "are not finite"),
    ],
    ids=["shape", "raw", "normalised", "channels", "nan"],
)
def test_images_that_have_no_statistics_are_refused(images, data, message):
    fresh = warm.random_weights(NET)
    with pytest.raises(UsageError, match=message):
        recalibrate(NET, fresh, LOW, images, batch_size=8, data=data)


@pytest.mark.parametrize(
    ("size", "most", "expected"), [(1294, 10_000, 1200), (50_000, 10_000, 10_000), (700, 500, 400)]
)
def test_as_many_images_are_taken_as_fill_whole_batches(size, most, expected):
    assert whole_batches(size, 200, most) == expected


@pytest.mark.parametrize(
    ("devices", "expected"), [(1, 200), (8, 200), (16, 192), (64, 192), (200, 200), (512, 512)]
)
def test_a_batch_of_no_given_size_is_shared_by_any_number_of_devices(devices, expected):
    assert shared_batch_size(devices) == expected


def test_a_set_of_less_than_a_batch_is_refused():
    with pytest.raises(UsageError, match="150 images do not fill a batch of 200"):
        whole_batches(150, 200, 10_000)
