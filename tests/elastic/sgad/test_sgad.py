"""SGAD: the plan of the stem's output, its gradients, its noise, and what only teaches it."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import KEY, has_gradient, mean_of, when
from thorough import thorough
from warm import cast, random_batch, random_images, shapes_of, warmed

from jax_elastic import rng
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Aux, Draw
from jax_elastic.elastic.losses import cross_entropy
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.reads import statistics_read
from jax_elastic.elastic.sgad.bmnet import BMNET, BMNet, Noise
from jax_elastic.elastic.sgad.guideline import expected_drop, sureness
from jax_elastic.elastic.sgad.sgad import P_MAX, SGAD, SGNET
from jax_elastic.elastic.train_only import TRAIN_ONLY, without_train_only
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import FULL, Subnet

TINY = ResNet((2, 1), width=8, classes=5)
NETWORK = SGAD(TINY, temperature=2.0, weight_r=2.0, weight_b=3.0, weight_s=0.5)


@pytest.fixture(scope="module")
def variables():
    return warmed(NETWORK, seed=8)


@functools.cache
def gradient_program(network, bn="batch"):
    """The jitted (variables, batch, sigma, key) -> (loss, aux), gradients."""

    @jax.jit
    def function(variables, batch, sigma, key):
        def loss(params):
            draw = Draw(FULL, values={"sigma": sigma})
            return network.loss({**variables, "params": params}, batch, draw, key, "guided", bn)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return function


def step(network, variables, sigma=1.0):
    """Loss, its additive rest and gradients for a batch of noise."""
    program = gradient_program(network)
    (value, aux), gradients = program(variables, random_batch(8), jnp.float32(sigma), KEY)
    return value, aux, gradients


def test_its_variables_are_those_of_the_plain_network_of_bmnet_and_of_sgnet():
    ours, plain = shapes_of(NETWORK), shapes_of(Plain(TINY))

    served = without_train_only(ours)
    of_plain = {name: {k: v for k, v in served[name].items() if k != BMNET} for name in served}
    chex.assert_trees_all_equal(of_plain, plain)
    taught = {name: ours[name][TRAIN_ONLY][SGNET] for name in ours}
    chex.assert_trees_all_equal(taught, shapes_of(Plain(TINY.resnet8())))


@pytest.mark.parametrize(
    "blocks,share,params", [(5, "1.29 %", 7_470), (18, "0.35 %", 8_757)], ids=["32", "110"]
)
def test_bmnet_costs_what_the_paper_says(blocks, share, params):
    backbone = ResNet((blocks,) * 3)
    costs, plain = (CostModel(kind(backbone), (32, 32, 3)) for kind in (SGAD, Plain))

    cost, whole = costs.cost(FULL), plain.cost(FULL).full

    # Two convolutions of stride 2, and the layer that ends in a logit per gate.
    convolutions = 9 * 16 * (16 * 16**2 + 32 * 8**2)
    assert cost.gates == convolutions + 32 * (3 * blocks - 1)
    assert f"{cost.gates / whole:.2%}".replace("%", " %") == share
    assert cost.fixed + sum(cost.blocks) == whole
    assert len(cost.blocks) == 3 * blocks - 1
    assert costs.params(FULL)["params_gates"] == params
    assert costs.params(FULL)["params"] == plain.params(FULL)["params"] + params


def test_the_plan_is_made_between_stem_and_blocks_and_the_last_block_is_not_in_it():
    roles = [(segment.name, segment.role) for segment in NETWORK.segments(FULL)]

    assert roles == [
        *(("stem", "fixed"), ("bmnet", "plan"), ("block1", "gated"), ("block2", "gated")),
        *(("block3", "fixed"), ("head", "fixed")),
    ]


def test_gates_start_open():
    fresh = BMNet(8, 4, 2.0).init(KEY, jnp.zeros((1, 4, 4, 8)), "running")

    np.testing.assert_array_equal(fresh["params"]["logits"]["bias"], 2.0)


@pytest.mark.parametrize(
    "guideline", thorough(["concave", "constant", "none"], ("concave", "constant").__contains__)
)
def test_the_loss_is_the_weighted_sum_of_its_parts(guideline):
    network = dataclasses.replace(NETWORK, guideline=guideline)

    value, aux, gradients = step(network, warmed(network, seed=8))

    parts = {"ce": 2.0}
    parts |= {} if guideline == "none" else {"loss_b": 3.0}
    parts |= {"loss_s": 0.5} if network.sgnet else {}
    expected = sum(weight * mean_of(aux.sums, name) for name, weight in parts.items())
    # Float32 rounding of a sum of eight.
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert {"loss_b", "loss_s"} & set(aux.sums) == set(parts) - {"ce"}
    assert all(has_gradient(gradients))
    assert (TRAIN_ONLY in gradients) == (guideline == "concave")


@functools.cache
def raised():
    """A float64 network in which no ReLU after the stem is at its kink, where it has no slope."""
    with jax.enable_x64(False):
        variables = warmed(NETWORK, seed=8)
    with jax.enable_x64(True):
        wide = cast(variables, "float64")
        wide["params"]["stem"]["bn"]["bias"] += 10.0
        return dataclasses.replace(NETWORK, dtype="float64"), wide


@functools.cache
def by_hand():
    """The jitted (variables, batch of one image, sigma, key) -> L, dL/dz (N,) and gates (N,).

    L is taken as a function of gates that may be any numbers.
    """
    network, _ = raised()

    def loss(gates, variables, batch):
        rows = jnp.append(gates, 1.0)[:, None]
        answer = network.planned_forward(variables, batch["image"], rows, rows, "batch")
        own = {name: variables[name][TRAIN_ONLY][SGNET] for name in variables}
        soft, _, _ = network.forward(network.sgnet.module(), own, batch["image"], "batch")
        expected = expected_drop(sureness(soft, network.temperature), network.p_max, "concave")
        own_loss, taught = (cross_entropy(z, batch["targets"][0]) for z in (answer.logits, soft))
        off = jnp.abs(expected - (1 - gates.mean()))
        return (2.0 * own_loss + 3.0 * off + 0.5 * taught)[0]

    @jax.jit
    def function(variables, batch, sigma, key):
        planned = network.test_forward(variables, batch["image"], None, None, "batch")
        noisy = Noise(rng.keys_by_place(key, 1), sigma).added(planned.open.T)[0]
        h, small = jax.nn.sigmoid(noisy), 1e-6
        gates = (noisy >= 0).astype(h.dtype)
        steps = small * jnp.concatenate([jnp.eye(2), -jnp.eye(2), jnp.zeros((1, 2))])
        *ends, value = jax.lax.map(lambda step: loss(gates + step, variables, batch), steps)
        slopes = (jnp.array(ends[:2]) - jnp.array(ends[2:])) / (2 * small)
        return value, slopes * h * (1 - h), gates

    return function


@pytest.mark.parametrize("seed,opened", [(0, (1, 0)), (3, (0, 0)), (4, (1, 1)), (12, (0, 1))])
def test_a_gate_has_the_gradient_of_the_rounded_one_times_the_slope_of_its_sigmoid(seed, opened):
    with jax.enable_x64(True):
        network, variables = raised()
        given = (random_batch(1, seed, "float64"), jnp.float32(2), jax.random.key(seed))

        (value, _), gradients = gradient_program(network)(variables, *given)
        expected, slopes, gates = by_hand()(variables, *given)

        assert tuple(gates) == opened
        assert float(value) == pytest.approx(float(expected), rel=1e-10)
        # Of one image dL/d(bias) is dL/dz. Differences of numbers of about 1, rounded to 1e-16,
        # over 2e-6.
        found = gradients[BMNET]["logits"]["bias"]
        np.testing.assert_allclose(found, slopes, rtol=1e-6, atol=1e-9)


def test_no_gradient_reaches_sgnet_through_what_is_expected(variables):
    alone = dataclasses.replace(NETWORK, weight_s=0.0)

    _, aux, gradients = step(alone, variables)

    assert mean_of(aux.sums, "loss_b") > 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients[TRAIN_ONLY]))
    assert all(has_gradient(without_train_only({"params": gradients})["params"]))


@pytest.mark.parametrize("guideline", ["concave", "constant"])
def test_what_is_expected_at_test_is_by_running_statistics(guideline):
    network = dataclasses.replace(NETWORK, guideline=guideline)
    variables, batch = warmed(network, seed=8), random_batch(8)

    found = jax.jit(network.expected)(variables, batch["image"])

    (_, aux), _ = gradient_program(network, "running")(variables, batch, jnp.float32(0), KEY)
    assert found.shape == (8,)
    assert float(found.mean()) == pytest.approx(float(mean_of(aux.sums, "expected")), rel=1e-6)


def test_an_expectation_needs_a_guideline_and_what_it_reads(variables):
    with pytest.raises(UsageError, match="none expects nothing"):
        dataclasses.replace(NETWORK, guideline="none").expected(variables, random_images(2))
    with pytest.raises(UsageError, match="SGNet is not among these"):
        NETWORK.expected(without_train_only(variables), random_images(2))


def programs_of(network):
    """What is computed in training and at test, as text."""
    shapes, batch = shapes_of(network), random_batch(2)
    draw = Draw(FULL, values={"sigma": jnp.float32(1)})
    training = jax.make_jaxpr(lambda v: network.loss(v, batch, draw, KEY, "guided", "batch"))
    test = jax.make_jaxpr(lambda v: network.predict(v, batch["image"], (FULL,), None))
    return str(training(shapes)), str(test(shapes))


def test_nothing_is_drawn_at_test():
    training, test = programs_of(NETWORK)

    assert "random_bits" in training
    assert "random_bits" not in test


@pytest.mark.parametrize(
    "objective,done,sigma", [("guided", 0, 0), ("guided", 5, 1), ("finetuned", 0, 2)]
)
def test_noise_grows_in_the_first_training_and_stays_in_the_second(objective, done, sigma):
    place = when(objective)._replace(phase_step=done, phase_steps=10)

    (draw,) = NETWORK.draws(np.random.default_rng(0), place)

    assert (draw.subnet, draw.values["sigma"]) == (FULL, np.float32(sigma))
    assert draw.values["sigma"].dtype == np.float32


def test_an_images_noise_is_its_places_and_the_same_in_float64():
    def noise(size, dtype):
        keys = rng.keys_by_place(KEY, size)
        return np.asarray(Noise(keys, jnp.float32(2)).added(jnp.zeros((size, 3), dtype)))

    few, many = noise(4, jnp.float32), noise(8, jnp.float32)
    with jax.enable_x64(True):
        wide = noise(4, jnp.float64)

    np.testing.assert_array_equal(few, many[:4])
    np.testing.assert_array_equal(few, wide)
    assert len(np.unique(many)) == 24


def test_without_what_teaches_it_the_network_answers_as_before(variables):
    served = without_train_only(variables)
    predict = jax.jit(NETWORK.predict, static_argnums=2)

    (whole,), (bare,) = (predict(v, random_images(4), (FULL,), None) for v in (variables, served))

    assert not any(TRAIN_ONLY in served[name] for name in served)
    chex.assert_trees_all_equal(bare, whole)


def test_statistics_are_estimated_of_what_is_served_alone(variables):
    served = without_train_only(variables)
    images = random_images(16)

    whole, bare = (recalibrate(NETWORK, v, FULL, images, batch_size=8) for v in (variables, served))

    read = statistics_read(NETWORK, variables, FULL)
    assert not any(leaf.any() for leaf in jax.tree.leaves(read.pop(TRAIN_ONLY)))
    assert all(leaf.all() for leaf in jax.tree.leaves(read))
    chex.assert_trees_all_equal(without_train_only(whole), bare)
    chex.assert_trees_all_equal(whole["stats"][TRAIN_ONLY], variables["stats"][TRAIN_ONLY])
    assert (bare["stats"][BMNET]["bn1"]["mean"] != served["stats"][BMNET]["bn1"]["mean"]).all()


def test_a_fixed_set_of_the_blocks_that_can_be_dropped_is_what_masking_gives_under_it():
    fixed, images = Subnet.parse("blocks:1,0"), random_images(4)
    with jax.enable_x64(False):
        drawn = warmed(NETWORK, seed=8)
    with jax.enable_x64(True):
        network = dataclasses.replace(NETWORK, dtype="float64")
        variables, wide = cast(drawn, "float64"), jnp.asarray(images, jnp.float64)
        opened = jnp.tile(jnp.array([True, False]), (4, 1))

        masked = build_engine(network, variables, "masked")(wide, FULL, gates=opened)
        static = build_engine(network, variables, "static", [fixed])(wide, fixed)

        largest = np.abs(masked.logits[0]).max()
        np.testing.assert_allclose(static.logits[0], masked.logits[0], atol=1e-10 * largest)
    with pytest.raises(UsageError, match="blocks: takes 2 numbers"):
        NETWORK.check(Subnet.parse("blocks:1,0,1"))


ADAPTIVE = SGAD(TINY, p_max=0.5, guideline="constant", wanted=0.6, wanted_rate=0.1)


@pytest.mark.parametrize("dropped,moved", [(0.0, 0.04), (0.6, 0.0), (1.0, -0.1 * (0.6 - 1 / 3))])
def test_p_max_goes_up_where_more_blocks_run_than_are_wanted(dropped, moved):
    stats = {"stem": {"bn": bn_of(3)}, TRAIN_ONLY: {P_MAX: jnp.float32(0.5)}}
    sums = {"dropped": (jnp.float32(8 * dropped), jnp.float32(8))}
    zero = {"mean": jnp.zeros(3), "var": jnp.zeros(3), "n": jnp.int32(0)}

    after = ADAPTIVE.fold(stats, Aux({"stem": {"bn": zero}, TRAIN_ONLY: {}}, sums))

    # Two of the three blocks can be dropped.
    assert float(after[TRAIN_ONLY][P_MAX]) == pytest.approx(0.5 + moved, abs=1e-6)
    chex.assert_trees_all_equal(after["stem"], stats["stem"])


def bn_of(features):
    """The statistics of a BN layer."""
    return {"mean": jnp.ones(features), "var": jnp.ones(features), "count": jnp.int32(1)}


def test_what_is_expected_follows_the_p_max_that_was_reached():
    fresh = shapes_of(ADAPTIVE)["stats"][TRAIN_ONLY]
    assert fresh == {P_MAX: jax.ShapeDtypeStruct((), jnp.float32)}
    variables = warmed(dataclasses.replace(NETWORK, guideline="constant"), seed=8)
    reached = {P_MAX: jnp.float32(0.7)}
    stats = {**variables["stats"], TRAIN_ONLY: reached}

    _, aux, _ = step(ADAPTIVE, {**variables, "stats": stats})

    assert mean_of(aux.sums, "expected") == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"backbone": ResNet((1,))}, "of one block has none to drop"),
        ({"p_max": 0.0}, "p_max 0 is no share"),
        ({"p_max": 1.0}, "p_max 1 is no share"),
        ({"temperature": 0.0}, "temperature 0 is not positive"),
        ({"wanted": 1.0}, "wanted 1 is no share"),
        ({"wanted": 0.5, "guideline": "none"}, "guideline none does not read"),
        ({"noise": -1.0}, "noise -1 is negative"),
        ({"weight_b": float("inf")}, "weight_b inf is negative or not finite"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        SGAD(**fields)
