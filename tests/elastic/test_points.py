"""Operating points beside a network's own: a fixed set of blocks, and a capacity."""

import dataclasses
import functools

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thorough import thorough
from warm import BACKBONE, SMALL, cast, random_images, warmed

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.points import all_blocks, couples, highest, own_budget, passing
from jax_elastic.elastic.segments import first_carry
from jax_elastic.elastic.urnet.external import External
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import URNetSoft
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import FULL, Subnet

BLOCKS, HALF = Subnet("blocks", (1, 0, 0, 1, 1)), Subnet("capacity", (0.5,))
IMAGES = random_images(5, 1)
NETWORKS = {
    "urnet": SMALL,
    "external": External(BACKBONE, hidden=8),
    "random_drop": RandomDrop(BACKBONE),
}
ONES_OR_NAN = st.one_of(st.floats(-2, 2, width=32), st.just(float("nan")), st.just(1.0))


@functools.cache
def weights(name):
    """Called under x64; the numbers are those of float32."""
    with jax.enable_x64(False):
        variables = warmed(NETWORKS[name], 9)
    return cast(variables, "float64")


def float64(name):
    return dataclasses.replace(NETWORKS[name], dtype="float64")


def keys_for(network, size=5):
    return jax.random.split(jax.random.key(0), size) if network.random else None


@given(logits=st.lists(ONES_OR_NAN, min_size=1, max_size=9), share=st.floats(0.01, 1))
def test_those_who_pass_are_the_highest_and_of_equal_ones_the_first(logits, share):
    count = passing(share, len(logits))
    order = sorted(range(len(logits)), key=lambda i: (np.isnan(logits[i]), -logits[i], i))
    # Of NaN nobody asks in which order they come, but that they come last.
    known = [i for i in order if not np.isnan(logits[i])][:count]

    found = np.asarray(highest(jnp.array(logits, jnp.float32), share))

    assert found.sum() == count
    assert found[known].all()


@pytest.mark.parametrize(
    ("share", "size", "count"), [(0.5, 5, 3), (0.1, 30, 3), (1, 7, 7), (0.01, 3, 1), (1e-12, 3, 1)]
)
def test_a_share_of_a_batch_is_rounded_up(share, size, count):
    assert passing(share, size) == count


def test_a_fixed_set_and_a_capacity_imply_their_share_as_the_budget():
    assert own_budget(BLOCKS) == 0.6
    assert own_budget(HALF) == 0.5
    assert own_budget(FULL) is None


def test_only_under_a_capacity_images_depend_on_each_other():
    assert [couples(point) for point in (FULL, BLOCKS, HALF)] == [False, False, True]


@pytest.mark.parametrize(
    "name,engine",
    thorough(
        [(name, engine) for name in NETWORKS for engine in ("static", "masked", "compacted")],
        lambda name, engine: name == "urnet" or engine == "static",
    ),
)
def test_a_fixed_set_is_what_masking_gives_under_these_gates(name, engine):
    with jax.enable_x64(True):
        network, images = float64(name), jnp.asarray(IMAGES, jnp.float64)
        gates = jnp.tile(jnp.array(BLOCKS.value, bool), (5, 1))
        keys = keys_for(network)
        masked = build_engine(network, weights(name), "masked")
        expected = masked(images, FULL, 0.6, gates, keys).logits[0]

        found = build_engine(network, weights(name), engine, [BLOCKS])(images, BLOCKS, keys=keys)

        np.testing.assert_allclose(found.logits[0], expected, atol=1e-10 * np.abs(expected).max())
        assert found.gates is None


@pytest.mark.parametrize("name", thorough(NETWORKS, "urnet".__eq__))
def test_under_a_capacity_the_images_that_want_a_block_most_get_it(name):
    with jax.enable_x64(True):
        network, images = float64(name), jnp.asarray(IMAGES, jnp.float64)
        keys = keys_for(network)
        logits, passed = by_hand(network, weights(name), images, 0.6, 3, keys)

        for engine in ("masked", "compacted"):
            run = build_engine(network, weights(name), engine)
            found = run(images, HALF, 0.6, keys=keys)
            np.testing.assert_array_equal(np.asarray(found.gates) >= 0, passed)
            np.testing.assert_allclose(found.logits[0], logits, atol=1e-10 * np.abs(logits).max())


def by_hand(network, variables, images, budget, count, keys):
    """Goes through the segments image by image: logits, and who passed each block."""
    budgets = jnp.full(len(images), budget, jnp.float32)
    carry, passed = first_carry(images, budgets, keys), []
    for segment in network.segments(FULL):
        own, code = segment.take(variables), segment.code
        if segment.role != "gated":
            carry = code.open(own, carry)
            continue
        wants = np.asarray(code.gate(own, carry, jnp.float32(budget)))
        first = np.argsort(-wants, kind="stable")[:count]
        passed.append(np.isin(np.arange(len(images)), first))
        opened, closed = code.open(own, carry), code.skip(own, carry)
        ways = [opened if is_open else closed for is_open in passed[-1]]
        carry = {name: jnp.stack([way[name][i] for i, way in enumerate(ways)]) for name in closed}
    return carry["logits"][0], np.array(passed).T


def test_the_masked_forward_of_a_network_knows_these_points():
    variables = warmed(SMALL, 9)
    predict = jax.jit(SMALL.predict, static_argnums=2)
    full, fixed, half = predict(variables, IMAGES, (FULL, BLOCKS, HALF), jnp.float32(0.6))
    engine = build_engine(SMALL, variables, "masked")

    for subnet, found in ((FULL, full), (HALF, half), (BLOCKS, fixed)):
        expected = engine(IMAGES, subnet, 0.6).logits[0]
        np.testing.assert_allclose(found.logits[0], expected, atol=1e-5 * np.abs(expected).max())


def test_a_fixed_set_costs_its_blocks_and_no_gate():
    costs = CostModel(SMALL, (8, 8, 3))
    full = costs.cost(FULL)

    fixed = costs.cost(BLOCKS)

    assert fixed.gates == 0
    assert fixed.full == full.of(np.array(BLOCKS.value, bool)) - full.gates
    assert costs.cost(HALF) == full


def test_padding_competes_with_no_image_when_a_split_is_evaluated():
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    dataset = Dataset("noise", images, np.zeros((11, 1), np.int32), (5,), tuple("abcde"))
    data = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
    points = [FULL, HALF, BLOCKS]
    evaluate = Evaluator(SMALL, dataset, data, points, [0.4, 0.6], batch_size=8)

    found = evaluate(warmed(SMALL, 9))

    assert [(row["subnet"], row["asked"]) for row in found.rows] == [
        ("full", 0.4),
        ("full", 0.6),
        ("capacity:0.5", None),
        (str(BLOCKS), None),
    ]
    # Of 8 images 4 pass each block, of the last 3 two.
    assert found.rows[2]["achieved"] == pytest.approx(6 / 11)
    assert found.rows[2]["tracking_error"] is None
    assert [row.get("batch_size") for row in found.rows] == [None, None, 8, None]
    assert (found.rows[3]["blocks_total"], found.rows[3]["achieved"]) == (None, 0.6)
    assert found.rows[3]["macs_mean"] == CostModel(SMALL, (8, 8, 3)).cost(BLOCKS).full


@pytest.mark.parametrize("points", [[FULL], [BLOCKS]], ids=str)
def test_a_budget_that_is_none_is_refused_even_where_none_is_needed(points):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    dataset = Dataset("black", images, np.zeros((2, 1), np.int32), (5,), tuple("abcde"))
    data = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
    with pytest.raises(UsageError, match=r"budget 1\.7 is outside"):
        Evaluator(SMALL, dataset, data, points, [1.7])


def test_a_fixed_set_reads_no_gate_and_of_a_closed_block_its_projection_alone():
    costs, closed = CostModel(SMALL, (8, 8, 3)), Subnet("blocks", (0,) * 5)
    full = costs.params(FULL)
    assert costs.params(all_blocks(SMALL)) == {
        **full,
        "params": full["params"] - full["params_gates"],
        "params_gates": 0,
    }
    stem_and_head = [s for s in SMALL.segments(FULL) if s.role == "fixed"]
    sizes = [segment.take(warmed(SMALL, 9)).get("params", {}) for segment in stem_and_head]
    assert costs.params(closed)["params"] == sum(a.size for a in jax.tree.leaves(sizes))
    bottlenecks = URNet(ResNet((2,), width=8, classes=5, block="bottleneck"))
    take = bottlenecks.segments(Subnet("blocks", (0, 0)))[1].take
    assert set(take(warmed(bottlenecks, 9))["params"]) == {"projection", "bn_projection"}


def test_a_closed_block_that_changes_nothing_is_left_out_so_that_equal_ones_follow_each_other():
    names = [segment.name for segment in SMALL.segments(BLOCKS)]
    assert names == ["stem", "block1-open", "block3-closed", "block4-open", "block5-open", "head"]


@pytest.mark.parametrize("engine", ["masked", "compacted"])
def test_a_broken_image_takes_no_place_from_another(engine):
    images = IMAGES.copy()
    images[1, 0, 0] = np.nan
    network = RandomDrop(BACKBONE)  # its plan does not see the image
    run = build_engine(network, warmed(network, 9), engine)

    found = run(images, HALF, keys=keys_for(network))

    # A random plan's logits are 1 and -1: the first of the others pass.
    assert (np.asarray(found.gates) >= 0).sum(0).tolist() == [3] * 5
    assert not (np.asarray(found.gates)[1] >= 0).any()
    assert np.isnan(found.logits[0][1]).all()
    assert np.isfinite(np.delete(np.asarray(found.logits[0]), 1, 0)).all()


# A batch of which half is no whole number, and blocks with projections.
@pytest.mark.parametrize(
    "size,name",
    thorough(
        [(size, name) for size in (1, 4, 7) for name in ("urnet", "urnet-bottlenecks")],
        lambda size, name: (size, name) in [(7, "urnet"), (4, "urnet-bottlenecks")],
    ),
)
def test_those_who_pass_are_computed_as_by_masking_in_float32(name, size):
    network, images = families.ALL[name], random_images(size, 2)
    variables = warmed(network, 9)
    found, expected = (
        build_engine(network, variables, engine)(images, HALF) for engine in ("compacted", "masked")
    )
    np.testing.assert_array_equal(found.gates, expected.gates)
    tolerance = 1e-5 * np.abs(expected.logits[0]).max()
    np.testing.assert_allclose(found.logits[0], expected.logits[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blocks:1,0", "blocks: takes 5 numbers, 1 for each block that runs, 0 for the others"),
        ("blocks:1,0,2,1,1", "blocks: takes 5 numbers"),
        ("capacity:0", r"capacity: takes one number in \(0, 1\], for example capacity:0.5"),
        ("capacity:0.5,0.5", "capacity: takes one number"),
        ("width:3", r"it takes full, capacity:share, or blocks:1,0,\.\.\. with a number"),
    ],
)
def test_points_that_do_not_fit_are_refused_with_what_does(text, message):
    with pytest.raises(UsageError, match=message):
        SMALL.check(Subnet.parse(text))


@pytest.mark.parametrize("network", [Plain(BACKBONE), URNetSoft(BACKBONE)], ids=["plain", "soft"])
@pytest.mark.parametrize("point", [BLOCKS, HALF], ids=str)
def test_networks_that_skip_nothing_do_not_have_these_points(network, point):
    with pytest.raises(UsageError, match="does not fit this network; it takes full"):
        network.check(point)


def test_gates_cannot_be_given_where_a_capacity_decides():
    engine = build_engine(SMALL, warmed(SMALL, 9), "compacted")
    with pytest.raises(UsageError, match=r"capacity:0.5 decides which images pass"):
        engine(IMAGES, HALF, 0.6, jnp.ones((5, 5), bool))


def test_the_static_engine_refuses_points_whose_gates_decide():
    with pytest.raises(UsageError, match=r"engine static cannot run full.*blocks:1,0,"):
        build_engine(SMALL, warmed(SMALL, 9), "static")
