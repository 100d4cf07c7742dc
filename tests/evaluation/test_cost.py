"""Costs by segments add up to the walk of the whole network, and each segment is walked once."""

import dataclasses
import functools

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warm import BACKBONE, SMALL, keys_of, shapes_of

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Segment
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation import cost as cost_module
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.macs import count_macs
from jax_elastic.subnet import FULL, Subnet

SHAPE = (9, 8, 3)
PLAIN = Plain(BACKBONE)
CONV = 3 * 3


@functools.cache
def costs(network):
    """The cost model of a network, which remembers what it walked."""
    return CostModel(network, SHAPE)


def dense_macs(network, subnet=FULL, images=1):
    """The counter's walk of the whole masked forward."""
    budget = 0.5 if network.budgets else None
    network = network.reference()
    batch = jax.ShapeDtypeStruct((images, *SHAPE), jnp.float32)
    keys = keys_of(network, images)

    def predict(variables, images):
        return network.predict(variables, images, (subnet,), budget, keys)

    return count_macs(predict, shapes_of(network, SHAPE), batch)


@pytest.mark.parametrize("name,subnet", families.POINTS)
def test_segments_add_up_to_the_whole_dense_forward(name, subnet):
    cost = costs(families.ALL[name]).cost(subnet)
    assert cost.full == dense_macs(families.ALL[name], subnet) > 0
    assert cost.full == cost.fixed + sum(cost.blocks) + cost.gates


def test_a_cost_is_that_of_one_image():
    assert dense_macs(SMALL, images=3) == 3 * costs(SMALL).cost(FULL).full


def test_the_cost_of_a_small_network_is_the_sum_made_by_hand():
    cost = costs(SMALL).cost(FULL)
    maps = [9 * 8, 5 * 4, 3 * 2]
    stack = maps[0] * CONV * (8 * 8 + 8 * 8)
    blocks = (
        stack,
        stack,
        maps[1] * CONV * (8 * 16 + 16 * 16),
        maps[1] * CONV * (16 * 16 + 16 * 16),
        maps[2] * CONV * (16 * 32 + 32 * 32),
    )
    gates = sum(2 * c * (c // 2) + c // 2 for c in (8, 8, 8, 16, 16))
    assert cost == (maps[0] * CONV * 3 * 8 + 32 * 5, blocks, gates)


def test_a_network_without_gates_is_all_fixed():
    plain, gated = (costs(network).cost(FULL) for network in (PLAIN, SMALL))
    assert plain == (gated.fixed + sum(gated.blocks), (), 0)


@pytest.mark.parametrize("name,subnet", families.POINTS)
def test_the_form_that_runs_costs_what_the_reference_costs_but_for_zeros_and_shifted_maps(
    name, subnet
):
    network = families.ALL[name]
    executed = CostModel(network, SHAPE, executed=True).cost(subnet)
    if name in families.WITH_ZEROS:
        assert executed.full > costs(network).cost(subnet).full
    elif name in families.SHIFTED:
        assert executed.full < costs(network).cost(subnet).full
    else:
        assert executed == costs(network).cost(subnet)


def test_parameters_by_kind_are_the_counts_made_by_hand():
    params = costs(SMALL).params(FULL)
    convs = CONV * (3 * 8 + 4 * 8 * 8 + 8 * 16 + 3 * 16 * 16 + 16 * 32 + 32 * 32)
    bn = 2 * (8 + 4 * 8 + 4 * 16 + 2 * 32)
    gates = sum(2 * c * (c // 2) + c // 2 + c // 2 + 1 for c in (8, 8, 8, 16, 16))
    classifier = 32 * 5 + 5
    assert params == {
        "params": convs + bn + gates + classifier,
        "params_gates": gates,
        "params_bn": bn,
        "params_classifiers": classifier,
    }


@pytest.mark.parametrize("network", families.SMALL.values(), ids=families.SMALL)
def test_parameters_are_those_that_init_makes(network):
    made = without_train_only(shapes_of(network, SHAPE))["params"]
    total = sum(leaf.size for leaf in jax.tree.leaves(made))
    if network.subnets.axis == "full":
        assert costs(network).params(FULL)["params"] == total
    else:  # exits, or BN layers, that are of another point
        assert costs(network).params(network.subnets.fullest)["params"] < total


def test_all_that_a_plan_reads_counts_as_gates_as_its_macs_do():
    external = families.SMALL["external"]
    plain, planned = costs(PLAIN).params(FULL), costs(external).params(FULL)
    policy = shapes_of(external, SHAPE)["params"]["policy"]
    size = sum(leaf.size for leaf in jax.tree.leaves(policy))
    assert planned["params"] - plain["params"] == planned["params_gates"] == size > 0
    assert planned["params_bn"] > plain["params_bn"]  # a number may be of two kinds


@dataclasses.dataclass(frozen=True)
class Mix:
    """A product over channels, 2 x 2 MACs a pixel; twice where it is open, once where skipped."""

    def open(self, own, carry):
        return {"x": carry["x"] @ own["w"] @ own["w"]}

    def skip(self, own, carry):
        return {"x": carry["x"] @ own["w"]}

    def gate(self, own, carry, budget):
        return budget * (carry["x"].mean((1, 2)) @ own["w"][:, 0])


@dataclasses.dataclass(frozen=True)
class Halve:
    """Every second pixel of the image or the map, for no MACs."""

    def open(self, own, carry):
        return {"x": carry.get("x", carry.get("image"))[:, ::2, ::2]}


class HandMade:
    """Segments of every role; equal ones on maps of other sizes."""

    budgets = ()
    candidates = ()
    random = False

    def reference(self):
        return self

    def init(self, key, images):
        return {"params": {"w": jnp.ones((2, 2))}}

    def check(self, subnet):
        pass

    def segments(self, subnet):
        def take(variables):
            return variables["params"]

        codes_and_roles = [
            (Halve(), "fixed"),  # 4 x 4
            (Mix(), "fixed"),
            (Halve(), "fixed"),  # 2 x 2
            (Mix(), "fixed"),
            (Mix(), "gated"),
            (Halve(), "fixed"),  # 1 x 1
            (Mix(), "gated"),
            (Mix(), "plan"),
        ]
        return tuple(
            Segment(str(n), code, take, role) for n, (code, role) in enumerate(codes_and_roles)
        )


def test_shortcuts_count_as_fixed_plans_as_gates_and_equal_codes_by_the_size_of_their_map():
    cost = CostModel(HandMade(), (8, 8, 2)).cost(FULL)
    # A product costs 4 MACs a pixel, a gate 2 whatever the map.
    always = 2 * 4 * 16 + 2 * 4 * 4
    skipped = 4 * 4, 4 * 1
    assert cost == (always + sum(skipped), skipped, 2 + 2 + 2 * 4)


@pytest.mark.parametrize("name", families.ALL)
def test_stages_are_the_blocks_between_two_changes_of_shape(name):
    network = families.ALL[name]
    gated = any(segment.role == "gated" for segment in network.segments(network.subnets.fullest))
    # Two of eight and sixteen channels, one of 32, which in one network always runs; bottlenecks
    # have other stages.
    sizes = {"urnet-bottlenecks": (1, 3), "toy": (1,), "adapt": (1,)}.get(name, (2, 2, 1))
    found = costs(network).blocks(network.subnets.fullest)
    assert tuple(map(len, found)) == (sizes if gated else ())


@pytest.mark.parametrize("name", ["sgad", "urnet"])
def test_blocks_are_named_by_stage_with_those_that_always_run_and_without_the_head(name):
    network = families.ALL[name]
    of_resnet = ("block1", "block2"), ("block3", "block4"), ("block5",)
    assert costs(network).blocks(network.subnets.fullest) == of_resnet


def test_what_an_image_costs_follows_from_what_it_opened_or_chose_or_else_from_the_point_alone():
    network = HandMade()
    network.candidates = (FULL, FULL)
    model = CostModel(network, (8, 8, 2))
    cost = model.cost(FULL)
    opened = np.array([[[0, 0], [1, 0], [1, 1]]])  # one draw of three images

    of_opened = model.of_images(FULL, (1, 3), opened, None)
    of_chosen = model.of_images(FULL, (1, 3), None, np.array([[0, 1, 0]]))

    always = cost.fixed + cost.gates
    assert of_opened.tolist() == [[always, always + cost.blocks[0], cost.full]]
    assert of_chosen.tolist() == [[cost.full + cost.gates] * 3]
    assert model.of_images(FULL, (2,), None, None).tolist() == [cost.full] * 2


# Seven codes: stem, head, a stack in each of three stages, a first block in two of them. A gated
# one is walked three times: open, skip and gate.
@pytest.mark.parametrize(
    "network,walks",
    [(Plain(ResNet((4, 5, 6))), 2 + 5), (URNet(ResNet((4, 5, 6))), 2 + 3 * 5)],
    ids=["plain", "urnet"],
)
def test_equal_segments_are_walked_once_however_deep_the_network(monkeypatch, network, walks):
    counted = []

    def counting(count):
        def walk(*args):
            counted.append(args)
            return count(*args)

        return walk

    for name in ("count_macs", "count_jaxpr"):
        monkeypatch.setattr(cost_module, name, counting(getattr(cost_module, name)))
    model = CostModel(network, (32, 32, 3))
    first = model.cost(FULL)
    assert len(counted) == walks
    assert model.cost(FULL) == first
    assert len(counted) == walks


def test_a_whole_space_is_counted_by_one_trace_for_each_segment_and_size(monkeypatch):
    network = Resizable(ResNet((1, 1, 1), width=4), scales=(0.5, 0.75, 1.0), side=16)
    traced = []
    monkeypatch.setattr(cost_module, "count_jaxpr", lambda jaxpr: traced.append(jaxpr) or 1)
    model = CostModel(network, (16, 16, 3))
    for subnet in network.subnets:
        model.cost(subnet)
        model.params(subnet)
    scales, stages = 3, 3
    # The image's resize and the stem; then in each stage a stretch for each scale, and a resize
    # from the only size that the stem hands on, or from each of the stage before.
    assert len(traced) == 2 + 2 * scales + (stages - 1) * (scales**2 + scales)
    assert len(network.subnets) == scales**stages


def test_what_a_point_costs_does_not_depend_on_which_was_counted_before():
    # At the point of all exits the first one hands on what the next increment reads.
    network = families.SMALL["exits"]
    points = (*network.subnets, *network.further)
    forwards, backwards = CostModel(network, SHAPE), CostModel(network, SHAPE)
    found = [forwards.cost(point) for point in points]
    assert found == [backwards.cost(point) for point in reversed(points)][::-1]
    assert found[-1].full > found[-2].full


@pytest.mark.parametrize("method", ["cost", "params"])
def test_an_operating_point_the_network_does_not_have_is_refused(method):
    with pytest.raises(UsageError, match="width:3 does not fit this network; it takes full"):
        getattr(CostModel(SMALL, SHAPE), method)(Subnet("width", (3,)))
