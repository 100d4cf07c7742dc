"""SGAD: the plan of the stem's output, its gradients, its noise, and what only teaches it."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import KEY, gradients_of, has_gradient, mean_of, when
from small_sgad import NETWORK, TINY
from warm import cast, random_batch, random_images, shapes_of, warmed

from jax_elastic import rng
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Draw
from jax_elastic.elastic.losses import cross_entropy
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.reads import statistics_read
from jax_elastic.elastic.sgad.bmnet import BMNET, Noise
from jax_elastic.elastic.sgad.guideline import expected_drop, sureness
from jax_elastic.elastic.sgad.sgad import SGAD, SGNET
from jax_elastic.elastic.train_only import TRAIN_ONLY, without_train_only
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import FULL, Subnet


@pytest.fixture(scope="module")
def variables():
    return warmed(NETWORK, seed=8)


def test_its_variables_are_those_of_the_plain_network_of_bmnet_and_of_sgnet():
    ours, plain = shapes_of(NETWORK), shapes_of(Plain(TINY))

    served = without_train_only(ours)
    of_plain = {name: {k: v for k, v in served[name].items() if k != BMNET} for name in served}
    chex.assert_trees_all_equal(of_plain, plain)
    taught = {name: ours[name][TRAIN_ONLY][SGNET] for name in ours}
    chex.assert_trees_all_equal(taught, shapes_of(Plain(TINY.resnet8())))


@functools.cache
def costs_of(blocks):
    """The counters of SGAD and of the plain network, of so many blocks a stage, on CIFAR."""
    return tuple(CostModel(kind(ResNet((blocks,) * 3)), (32, 32, 3)) for kind in (SGAD, Plain))


def of_depths(shallow, deep):
    """A case of ResNet-32, and one of ResNet-110 among the slow tests."""
    return [
        pytest.param(5, *shallow, id="32"),
        pytest.param(18, *deep, id="110", marks=pytest.mark.slow),
    ]


@pytest.mark.parametrize("blocks,share,params", of_depths(("1.29 %", 7_470), ("0.35 %", 8_757)))
def test_bmnet_costs_what_the_paper_says(blocks, share, params):
    costs, plain = costs_of(blocks)

    cost, whole = costs.cost(FULL), plain.cost(FULL).full

    # Two convolutions of stride 2, and the layer that ends in a logit per gate.
    convolutions = 9 * 16 * (16 * 16**2 + 32 * 8**2)
    assert cost.gates == convolutions + 32 * (3 * blocks - 1)
    assert f"{cost.gates / whole:.2%}".replace("%", " %") == share
    assert cost.fixed + sum(cost.blocks) == whole
    assert len(cost.blocks) == 3 * blocks - 1
    assert costs.params(FULL)["params_gates"] == params
    assert costs.params(FULL)["params"] == plain.params(FULL)["params"] + params


@pytest.mark.parametrize("blocks,below,above", of_depths((0.022, 0.031), (0.007, 0.009)))
def test_the_share_of_blocks_that_run_is_near_that_of_the_macs(blocks, below, above):
    costs, plain = costs_of(blocks)
    own, whole = np.sort(costs.cost(FULL).blocks), plain.cost(FULL).full

    # The cheapest or the dearest are dropped, so many as it may be: from none to all but the last.
    shares = 1 - np.arange(3 * blocks) / (3 * blocks)
    most, least = (1 - np.insert(each.cumsum(), 0, 0) / whole for each in (own, own[::-1]))

    assert (round((shares - least).max(), 3), round((most - shares).max(), 3)) == (below, above)


def test_the_plan_is_made_between_stem_and_blocks_and_the_last_block_is_not_in_it():
    roles = [(segment.name, segment.role) for segment in NETWORK.segments(FULL)]

    assert roles == [
        *(("stem", "fixed"), ("bmnet", "plan"), ("block1", "gated"), ("block2", "gated")),
        *(("block3", "fixed"), ("head", "fixed")),
    ]


def test_gates_start_open():
    bmnet = dataclasses.replace(NETWORK, gate_bias=1.5).bmnet()

    @jax.jit  # All but what is returned is left out of the program.
    def bias():
        return bmnet.init(KEY, jnp.zeros((1, 4, 4, 8)), "running")["params"]["logits"]["bias"]

    assert SGAD().gate_bias == 2.0
    np.testing.assert_array_equal(bias(), [1.5, 1.5])


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
    """The jitted (variables, batch of one image, sigma, key) -> L, dL/dz (N,), gates (N,) and u.

    L is taken as a function of gates that may be any numbers; u (1, classes) are SGNet's logits.
    """
    network, _ = raised()

    def said_by_sgnet(variables, batch):
        own = {name: variables[name][TRAIN_ONLY][SGNET] for name in variables}
        return network.forward(network.sgnet.module(), own, batch["image"], "batch")[0]

    def loss(gates, variables, batch):
        rows = jnp.append(gates, 1.0)[:, None]
        answer = network.planned_forward(variables, batch["image"], rows, rows, "batch")
        soft = said_by_sgnet(variables, batch)
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
        return value, slopes * h * (1 - h), gates, said_by_sgnet(variables, batch)

    return function


def gradients(network):
    """The jitted (variables, batch, sigma, key) -> (loss, aux), gradients."""
    return gradients_of(network, "guided", drawn="sigma")


@pytest.mark.parametrize("seed,opened", [(0, (1, 0)), (3, (0, 0)), (4, (1, 1)), (12, (0, 1))])
def test_a_gate_has_the_gradient_of_the_rounded_one_times_the_slope_of_its_sigmoid(seed, opened):
    with jax.enable_x64(True):
        network, variables = raised()
        given = (random_batch(1, seed, "float64"), jnp.float32(2), jax.random.key(seed))

        (value, _), slope_of = gradients(network)(variables, *given)
        expected, slopes, gates, _ = by_hand()(variables, *given)

        assert tuple(gates) == opened
        assert float(value) == pytest.approx(float(expected), rel=1e-10)
        # Of one image dL/d(bias) is dL/dz. Differences of numbers of about 1, rounded to 1e-16,
        # over 2e-6.
        found = slope_of[BMNET]["logits"]["bias"]
        np.testing.assert_allclose(found, slopes, rtol=1e-6, atol=1e-9)


def test_no_gradient_reaches_sgnet_through_what_is_expected():
    """Where SGNet's labels are what it says itself, its own loss has no gradient."""
    with jax.enable_x64(True):
        network, variables = raised()
        batch, *given = random_batch(1, 4, "float64"), jnp.float32(2), jax.random.key(4)
        *_, said = by_hand()(variables, batch, *given)

        _, taught = gradients(network)(variables, batch, *given)
        own = {**batch, "targets": (jax.nn.softmax(said),)}
        (_, aux), agreeing = gradients(network)(variables, own, *given)

        assert mean_of(aux.sums, "loss_b") > 0
        largest = max(abs(leaf).max() for leaf in jax.tree.leaves(agreeing[TRAIN_ONLY]))
        # A difference of probabilities, rounded to 1e-16, times sums over a small image.
        assert largest < 1e-12
        assert all(has_gradient(taught))


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


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"backbone": ResNet((1,))}, "of one block has none to drop"),
        ({"p_max": 0.0}, "p_max 0 is no share"),
        ({"p_max": 1.0}, "p_max 1 is no share"),
        ({"temperature": 0.0}, "temperature 0 is not positive .*; a finite number above 0"),
        ({"wanted": 1.0}, "wanted 1 is no share"),
        ({"wanted": 0.5, "guideline": "none"}, "guideline none does not read"),
        ({"noise": -1.0}, "noise -1 is negative or not finite; 0 or a finite number above it"),
        ({"weight_b": float("inf")}, "weight_b inf is negative or not finite; 0 or a finite"),
        ({"gate_bias": float("nan")}, "gate_bias nan is not finite; any finite number"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        SGAD(**fields)
