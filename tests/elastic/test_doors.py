"""The doors: arrays of another network, statistics never estimated, and budgets of none."""

import dataclasses
import types

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from thorough import thorough
from warm import BACKBONE, SMALL, shapes_of, warmed

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic import doors
from jax_elastic.elastic.doors import (
    check_budget,
    check_channels,
    check_statistics,
    check_variables,
    naming_channels,
)
from jax_elastic.elastic.family import Segment
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.reads import unestimated
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.interruptible import Interruptible
from jax_elastic.inference.measures import Measures
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.inference.targets import check_choice
from jax_elastic.subnet import FULL, Subnet


def variables_with_counts(count, network=SMALL):
    """Variables that are zeros but for the counts of BN updates."""
    return jax.tree.map(
        lambda s: np.full(s.shape, count if s.dtype == jnp.int32 else 0, s.dtype),
        shapes_of(network),
    )


def test_statistics_of_a_fresh_network_are_refused_by_a_message_that_says_how_to_mend_it():
    with pytest.raises(UsageError) as error:
        check_statistics(SMALL, variables_with_counts(0), FULL)
    assert str(error.value) == (
        "operating point full uses BN statistics that were never estimated (segment stem); "
        "name an operating point that was trained, finish its training (train.py on its workdir "
        "goes on), or estimate them: "
        "python -m jax_elastic recalibrate --workdir=WORKDIR --subnet=full --budget=0.6"
    )


@pytest.mark.parametrize("name,subnet", families.POINTS)
def test_a_fresh_network_is_refused_at_every_operating_point(name, subnet):
    network = families.ALL[name]
    with pytest.raises(UsageError, match=rf"operating point {subnet} uses BN .* never estimated"):
        check_statistics(network, variables_with_counts(0, network), subnet)


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("name,subnet", families.POINTS)
def test_statistics_are_accepted_from_the_first_update_on(name, subnet, count):
    network = families.ALL[name]
    check_statistics(network, variables_with_counts(count, network), subnet)


# Gates of blocks, a plan, widths and scales with statistics of their own, a part that teaches.
STEPPED = ("urnet", "external", "iresnext", "resizable", "sgad")


@pytest.mark.parametrize(
    "name,subnet",
    thorough([point.values for point in families.POINTS], lambda name, _: name in STEPPED),
)
def test_one_step_of_a_fresh_network_is_enough(name, subnet):
    check_statistics(families.ALL[name], warmed(families.ALL[name]), subnet)


@pytest.mark.parametrize(
    "place,segment",
    [
        (("stem", "bn"), "stem"),
        (("stage1", "blocks", "bn1", 0), "block1"),
        (("stage1", "blocks", "bn2", 1), "block2"),
        (("stage2", "first", "bn1"), "block3"),
        (("stage3", "first", "bn2"), "block5"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_one_layer_without_statistics_is_enough_and_its_segment_is_named(place, segment):
    variables = variables_with_counts(3)
    *path, last = place
    node = variables["stats"]
    for name in path if isinstance(last, int) else place:
        node = node[name]
    node["count"][last if isinstance(last, int) else ...] = 0
    with pytest.raises(UsageError, match=rf"never estimated \(segment {segment}\)"):
        check_statistics(SMALL, variables, FULL)


@pytest.mark.parametrize("counts,named", [([2, 0, 2], "stack"), ([2, 1, 2], None)])
def test_a_segment_that_reads_a_whole_stack_needs_statistics_in_all_of_it(counts, named):
    stack = Segment("stack", None, lambda variables: variables["stats"])
    network = types.SimpleNamespace(segments=lambda s: (stack,))
    variables = {"params": {}, "stats": {"bn": {"count": np.array(counts)}}}
    assert unestimated(network, variables, FULL) == named


def test_an_operating_point_the_network_does_not_have_is_refused_first():
    with pytest.raises(UsageError, match="width:3 does not fit"):
        check_statistics(SMALL, variables_with_counts(0), Subnet("width", (3,)))


def test_of_several_points_each_is_asked_about_and_the_arrays_once(monkeypatch):
    asked = []
    monkeypatch.setattr(doors, "check_variables", lambda *given: asked.append(given))
    low, high = (Subnet("width", (n,)) for n in (1, 2))
    network = types.SimpleNamespace(
        budgets=(),
        check=lambda s: None,
        segments=lambda s: (Segment(str(s), None, lambda variables: variables["stats"][str(s)]),),
    )
    counts = {str(low): {"count": np.array(2)}, str(high): {"count": np.array(0)}}
    with pytest.raises(UsageError, match=r"never estimated \(segment width:2\)"):
        check_statistics(network, {"params": {}, "stats": counts}, low, high)
    assert len(asked) == 1


def edited(tree, path, leaf=None):
    """A tree in which the leaf at a path is another, or gone."""
    flat = {**flatten_dict(tree, sep="/"), path: leaf}
    return unflatten_dict({p: a for p, a in flat.items() if a is not None}, sep="/")


def shape(*lengths):
    """An array without numbers."""
    return jax.ShapeDtypeStruct(lengths, jnp.float32)


KERNEL = "params/head/classifier/kernel"


@pytest.mark.parametrize(
    "path,leaf,fault",
    [
        (KERNEL, None, r"is missing"),
        (KERNEL, shape(32, 6), r"has shape \(32, 6\) and should have \(32, 5\)"),
        (KERNEL, shape(32), r"has shape \(32\) and should have \(32, 5\)"),
        ("params/stem/conv/kernel", shape(3, 3, 3, 9), r".* and should have \(3, 3, any, 8\)"),
        ("stats/head/bn/count", shape(), r"is an array that it does not have"),
    ],
    ids=["missing", "length", "axes", "of images", "superfluous"],
)
def test_the_first_array_that_is_not_of_the_network_is_named(path, leaf, fault):
    with pytest.raises(UsageError, match=f"not those of this network: {path} {fault}; take both"):
        check_variables(SMALL, edited(shapes_of(SMALL), path, leaf))


@pytest.mark.parametrize("nothing", [None, {}, (), 5], ids=repr)
def test_what_holds_no_arrays_is_not_taken_for_variables(nothing):
    with pytest.raises(UsageError, match=r"those of this network: params/\S+ is missing"):
        check_variables(SMALL, nothing)


def test_a_deeper_network_is_refused_the_arrays_of_a_shallower_one_which_it_could_run():
    shallow = families.SMALL["isresnext"]
    stages = (shallow.backbone.stage_sizes[0], shallow.backbone.stage_sizes[1] + 1)
    deep = dataclasses.replace(
        shallow, backbone=dataclasses.replace(shallow.backbone, stage_sizes=stages)
    )
    with pytest.raises(UsageError, match=r"\S+ has shape \(2, 16\) and should have \(3, 16\)"):
        check_statistics(deep, variables_with_counts(1, shallow), deep.subnets.cheapest)


NOISE = Dataset(
    "noise", np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 1), np.int32), (5,), tuple("abcde")
)
DATA = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
DOORS = {
    "engine": build_engine,
    "runner": Interruptible,
    "evaluator": lambda network, variables: Evaluator(network, NOISE, DATA)(variables),
    "measures": lambda network, variables: Measures(network, variables, NOISE, DATA)([POINT], {}),
    "recalibration": lambda network, variables: recalibrate(
        network, variables, POINT[0], NOISE.images, batch_size=4, data=DATA
    ),
    "choice": lambda network, variables: check_choice(network, variables, [POINT[0], POINT[0]]),
}
POINT = (families.SMALL["exits"].subnets.cheapest, None)


@pytest.mark.parametrize("other", ["isresnext", None])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_the_arrays_of_another_family(door, other):
    foreign = None if other is None else variables_with_counts(1, families.SMALL[other])
    with pytest.raises(UsageError, match=r"the variables are not those of this network: params/"):
        DOORS[door](families.SMALL["exits"], foreign)


@pytest.mark.parametrize("name", ["toy", "sgad", "exits", "resizable"])
def test_images_of_other_sizes_and_channels_give_arrays_that_are_the_networks_too(name):
    check_variables(families.ALL[name], shapes_of(families.ALL[name], (12, 12, 1)))


def test_parts_that_only_teach_a_network_may_be_there_or_not():
    network = families.SMALL["sgad"]
    whole = shapes_of(network)
    served = without_train_only(whole)
    assert jax.tree.structure(served) != jax.tree.structure(whole)
    check_variables(network, whole)
    check_variables(network, served)


def test_arrays_of_other_dtypes_are_those_of_the_network():
    half = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), shapes_of(SMALL))
    check_variables(SMALL, half)


@pytest.mark.parametrize("budget", [0, 0.0, 0.6, 1, np.float32(1), jnp.float32(0.2)], ids=repr)
def test_a_share_between_zero_and_one_is_a_budget(budget):
    check_budget(SMALL, budget)


def test_a_network_without_budgets_takes_none():
    check_budget(Plain(BACKBONE), None)


@pytest.mark.parametrize(
    "network,budget,message",
    [
        (SMALL, 1.3, r"budget 1.3 is outside \[0, 1\]; .* for example 0.6"),
        (SMALL, -0.1, r"budget -0.1 is outside \[0, 1\]"),
        (SMALL, float("nan"), r"budget nan is outside \[0, 1\]"),
        (SMALL, None, r"needs a budget; .* in \[0, 1\]; for example budget=0.6; .* --budget=0.6"),
        (Plain(BACKBONE), 0.6, r"takes no budget, but 0.6 was given; leave the budget out"),
    ],
    ids=["above", "below", "nan", "missing", "superfluous"],
)
def test_other_budgets_are_refused_with_the_way_out(network, budget, message):
    with pytest.raises(UsageError, match=message):
        check_budget(network, budget)


@pytest.mark.parametrize("name", ["urnet", "iresnext", "exits", "isresnext"])
def test_images_of_other_channels_are_refused_by_both_counts(name):
    network = families.ALL[name]
    grey = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    with pytest.raises(UsageError, match="channels of images is 1; 3 for this network; "):
        check_channels(network, shapes_of(network), grey)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 16, 12, 3)], ids=str)
def test_images_of_the_networks_channels_are_let_through_whatever_their_size(shape):
    check_channels(SMALL, shapes_of(SMALL), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_an_error_that_is_not_about_channels_is_raised_as_it_came():
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    with pytest.raises(ZeroDivisionError), naming_channels(SMALL, shapes_of(SMALL), images):
        _ = 1 / 0
