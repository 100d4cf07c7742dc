"""Banks that were never trained, filled on purpose with another operating point's."""

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.borrow import borrow_banks, borrowing
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.reads import statistics_read
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.layers.banks import bank
from jax_elastic.subnet import Subnet

NET = families.SMALL["resizable"]
LOW, FULL = Subnet("resolution", (0.5, 0.5)), Subnet("resolution", (1, 1))
MIXED = Subnet("resolution", (1, 0.5))


@pytest.fixture(scope="module")
def alone():
    """Variables as training at the fullest point alone leaves them: noise, and counts there."""
    fresh = warm.random_weights(NET)
    rng = np.random.default_rng(3)

    def trained(mask, leaf):
        value = 7 if leaf.dtype == jnp.int32 else rng.uniform(0.5, 2, leaf.shape)
        return jnp.where(mask, jnp.asarray(value, leaf.dtype), leaf)

    stats = jax.tree.map(trained, statistics_read(NET, fresh, FULL), fresh["stats"])
    return {"params": fresh["params"], "stats": stats}


def test_a_filled_network_is_the_one_whose_every_bank_is_the_trained_one(alone):
    filled = borrow_banks(NET, alone, FULL, (LOW, MIXED))

    check_statistics(NET, filled, LOW)
    for point in (LOW, MIXED):
        for low, full in zip(NET.stretches(point), NET.stretches(FULL), strict=True):
            chex.assert_trees_all_equal(low[1](filled), full[1](alone))


def test_only_banks_that_are_read_and_empty_are_filled(alone):
    filled = borrow_banks(NET, alone, FULL, (MIXED,))

    check_statistics(NET, filled, MIXED)
    chex.assert_trees_all_equal(filled["params"]["stage1"], alone["params"]["stage1"])
    chex.assert_trees_all_equal(filled["stats"]["stem"], alone["stats"]["stem"])
    # The scale of the last stage: its later blocks' BN layers.
    before, after = (v["stats"]["stage2"]["blocks"]["bn1"] for v in (alone, filled))
    np.testing.assert_array_equal(after["mean"][:, 1], before["mean"][:, 1])
    np.testing.assert_array_equal(after["mean"][:, 0], before["mean"][:, 1])
    np.testing.assert_array_equal(after["count"], [[7, 7]] * 2)
    with pytest.raises(UsageError, match="never estimated"):
        check_statistics(NET, filled, LOW)


def test_the_points_that_need_another_bank_are_named(alone):
    assert borrowing(NET, alone, (LOW, FULL, MIXED)) == (LOW, MIXED)


def test_a_bank_is_the_one_that_the_segments_take():
    variables = warm.random_weights(NET)
    path = ("stage2", "first", "bn1")  # a stride block: it sees the map of the stage before

    assert [NET.bank_at(MIXED, path), NET.bank_at(LOW, path)] == [1, 0]
    assert NET.bank_at(MIXED, ("stage2", "blocks", "bn1")) == 0
    assert NET.bank_at(FULL, ("stem", "bn")) is None
    _, stretch = NET.stretches(MIXED)[1]
    own = bank({"stats": variables["stats"]["stage2"]["first"]}, NET.bank_at(MIXED, path))
    chex.assert_trees_all_equal(stretch(variables)["stats"]["stage2"]["first"], own["stats"])


@pytest.mark.parametrize(
    ("network", "bank_of", "points", "message"),
    [
        (NET, LOW, (FULL,), r"resolution:0.5,0.5 uses BN statistics that were never estimated"),
        (NET, FULL, (FULL,), r"every bank of resolution:1,1 was estimated"),
        (NET, Subnet("resolution", (0.7, 1)), (LOW,), "resolution:0.7,1 does not fit"),
        (NET, FULL, (Subnet("resolution", (1,)),), "resolution:1 does not fit"),
        (families.SMALL["urnet"], Subnet("full"), (Subnet("full"),), "has no BN banks"),
        (families.SMALL["iresnext"], Subnet("width", (1,)), (), "has no BN banks"),
        (
            Resizable(ResNet((1,), width=4), scales=(0.5, 1.0), side=8, shared_bn=True),
            Subnet("resolution", (1,)),
            (Subnet("resolution", (0.5,)),),
            "has no BN banks",
        ),
    ],
    ids=["never trained", "needless", "scale", "stages", "one bank", "widths", "shared"],
)
def test_what_cannot_stand_for_another_is_refused(alone, network, bank_of, points, message):
    variables = alone if network is NET else warm.random_weights(network)
    with pytest.raises(UsageError, match=message):
        borrow_banks(network, variables, bank_of, points)
