"""Each variant of a config trains what makes it that variant, and nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from thorough import thorough
from warm import random_batch, random_weights

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import read_config
from jax_elastic.elastic.registry import family_name
from jax_elastic.elastic.urnet.variants import VARIANTS, vary
from jax_elastic.errors import UsageError
from jax_elastic.training.phases import make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_step
from jax_elastic.training.trainable import partition

SMALL = ResNet((2, 1), width=4)
STEPS = 3
ALL = ("base", "gates", "joint", "settle")

# Name -> family, what of its fields matters, its phases. Of URNet: p, beta as the digits config.
EXPECTED = {
    "urnet": ("urnet", {"p": 0.3, "beta": 8.0}, ALL),
    "base": ("plain", {}, ("base",)),
    "rand_val": ("random_drop", {"s_min": 0.0, "s_max": 1.0}, ("base",)),
    "rand_train": ("random_drop", {"s_min": 0.0, "s_max": 1.0}, ("base", "joint", "settle")),
    "external": ("external", {"p": 0.3, "beta": 8.0}, ALL),
    "sg": ("urnet", {"p": 1.0, "beta": 8.0}, ALL),
    "bg": ("urnet", {"p": 0.0, "beta": 8.0}, ALL),
    "ba": ("urnet_soft", {"p": 1.0, "beta": 8.0}, ALL),
    "ba_rand": ("soft_drop", {"s_min": 0.0, "s_max": 1.0}, ALL),
    "fixed0.5": ("urnet_fixed", {"target": 0.5, "p": 0.3}, ALL),
    "fixed0.6": ("urnet_fixed", {"target": 0.6, "p": 0.3}, ALL),
    "fixed0.7": ("urnet_fixed", {"target": 0.7, "p": 0.3}, ALL),
    "beta1": ("urnet", {"p": 0.3, "beta": 1.0}, ALL),
    "beta2": ("urnet", {"p": 0.3, "beta": 2.0}, ALL),
    "beta4": ("urnet", {"p": 0.3, "beta": 4.0}, ALL),
    "beta8": ("urnet", {"p": 0.3, "beta": 8.0}, ALL),
}
# Those whose steps are no other variant's with other numbers, and of them those that stand for
# gates in the blocks and for none that learns. A policy's phases take twice as long to compile.
STEPPED = ("urnet", "rand_train", "external", "sg", "bg", "ba", "ba_rand", "fixed0.5")
KINDS = ("urnet", "rand_train")


def of_each_kind(name):
    return name in KINDS


@functools.cache
def read(name):
    experiment, _ = read_config([f"--config=configs/urnet_digits.py:{name}"], "")
    network = dataclasses.replace(experiment.network, backbone=SMALL)
    # Statistics of the last batch alone: running ones of a few steps mean nothing.
    network = dataclasses.replace(network, bn_momentum=0.0)
    return network, {s.phase.name: s for s in spans(experiment.phases, 1024)}


@functools.cache
def trained(name):
    """Phase -> (state before, state after): some steps of each phase, in order."""
    network, phases = read(name)
    batch, fresh = random_batch(16, classes=(10,)), random_weights(network)
    state = TrainState(fresh["params"], fresh["stats"], (), jnp.int32(0), jnp.uint32(0))
    found = {}
    for phase, span in phases.items():
        optimizer = make_optimizer(span)
        trainable, _ = partition(state.params, span.phase.trainable)
        before = state = state._replace(opt_state=optimizer.init(trainable))
        step = jax.jit(make_step(network, span.phase, optimizer, "sliced"))
        for draw in drawn(network, span):
            state, _ = step(state, batch, (draw,))
        found[phase] = before, state
    return found


def drawn(network, span):
    """The draws of some steps of a phase."""
    whens = [span.when(span.start + i) for i in range(STEPS)]
    steps = [network.draws(np.random.default_rng(i), when) for i, when in enumerate(whens)]
    return [draw for (draw,) in steps]


def budgets(name):
    """Phase -> the budgets of some steps."""
    network, phases = read(name)
    return {
        phase: [draw.values.get("budget") for draw in drawn(network, span)]
        for phase, span in phases.items()
    }


def moved(before, after):
    """Path -> whether any number of that leaf changed."""
    before, after = jax.device_get((before, after))  # NumPy compiles nothing
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): bool((a != b).any())
        for (path, a), b in pairs
    }


def is_gate(path):
    return "/gate/" in path or path.startswith("policy/")


def parts_moved(before, after):
    """Whether any gate (None without gates), and any other leaf moved."""
    found = moved(before, after)
    gates = [did for path, did in found.items() if is_gate(path)]
    return any(gates) if gates else None, any(
        did for path, did in found.items() if not is_gate(path)
    )


def test_every_variant_is_expected_here():
    assert set(EXPECTED) == set(VARIANTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_variant_is_its_family_its_numbers_and_its_phases(name):
    family, fields, names = EXPECTED[name]
    network, phases = read(name)

    assert family_name(network) == family
    assert {field: getattr(network, field) for field in fields} == fields
    assert tuple(phases) == names


@pytest.mark.parametrize("name", thorough(STEPPED, of_each_kind))
def test_the_base_phase_leaves_gates_as_they_were_initialised(name):
    before, after = trained(name)["base"]

    assert parts_moved(before.params, after.params) in [(False, True), (None, True)]


@pytest.mark.parametrize(
    "name", thorough(["urnet", "external", "sg", "ba", "ba_rand", "fixed0.5"], of_each_kind)
)
def test_the_gates_phase_trains_gates_alone_under_frozen_statistics(name):
    before, after = trained(name)["gates"]

    assert parts_moved(before.params, after.params) == (True, False)
    # A policy's own statistics are learnt there.
    assert parts_moved(before.stats, after.stats) == (True if name == "external" else None, False)


# `test_urnet.py` has it of a step.
@pytest.mark.slow
def test_where_gates_are_never_soft_they_never_move():
    phases = trained("bg")

    assert parts_moved(phases["gates"][0].params, phases["gates"][1].params) == (False, False)
    assert parts_moved(phases["joint"][0].params, phases["joint"][1].params) == (False, True)


@pytest.mark.parametrize("name", thorough(STEPPED, of_each_kind))
def test_the_joint_phase_trains_the_network_and_its_statistics(name):
    before, after = trained(name)["joint"]
    gates = {"bg": False, "rand_train": None}.get(name, True)

    assert parts_moved(before.params, after.params) == (gates, True)
    assert parts_moved(before.stats, after.stats)[1]


@pytest.mark.parametrize("name", thorough(STEPPED, of_each_kind))
def test_the_last_phase_trains_under_frozen_statistics(name):
    before, after = trained(name)["settle"]

    assert parts_moved(before.params, after.params)[1]
    assert not any(parts_moved(before.stats, after.stats))


@pytest.mark.parametrize("name", STEPPED)
def test_budgets_are_drawn_from_the_whole_range_and_for_fixed_around_its_own(name):
    phases = budgets(name)

    assert set(phases["base"]) == {None}
    joint = np.array(phases["joint"])
    assert ((joint >= 0) & (joint <= 1)).all()
    if name == "fixed0.5":
        # The noise's std is 0.1; S comes down from 1 in the gates phase.
        assert abs(joint - 0.5).max() < 0.4
        assert np.mean(phases["gates"]) > 0.8


@pytest.mark.slow
def test_soft_and_hard_evaluation_share_one_training():
    for phase, (_, after) in trained("ba").items():
        other = trained("sg")[phase][1]
        assert not any(moved(after.params, other.params).values())


def test_a_setting_that_no_variant_has_is_refused():
    with pytest.raises(UsageError, match="no variant has a setting 'betta'"):
        vary("urnet", {"betta": 3.0}, ())


def test_an_unknown_variant_is_refused_with_the_names_of_all():
    with pytest.raises(UsageError, match="rand_train"):
        vary("random", {}, ())
