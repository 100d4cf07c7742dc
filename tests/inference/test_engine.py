"""The masked engine: every image its own way through the network, and nobody else's."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Toy
from warm import BACKBONE, SMALL, random_images, warmed, with_gate_logits

from jax_elastic.elastic.family import Segment
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.runs import masked, run_segments, stack_runs
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.errors import UsageError
from jax_elastic.inference.engine import build_engine
from jax_elastic.layers.downsample import average_pool_2x2, pad_channels
from jax_elastic.subnet import FULL, Subnet
from jax_elastic.training.trainable import partition

IMAGES = random_images(16, 1)


@dataclasses.dataclass(frozen=True)
class Affine:
    """A code whose arrays may have any shape."""

    def open(self, own, carry):
        return {"x": carry["x"] @ own["w"]}


@dataclasses.dataclass(frozen=True)
class Halve:
    """A code without arrays that changes the carry's shape."""

    def open(self, own, carry):
        return {"x": carry["x"][:, ::2]}


# Two programs may add a convolution's terms in another order; relative to the largest logit.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def variables():
    return warmed(SMALL, seed=9)


@pytest.fixture(scope="module")
def engine(variables):
    return build_engine(SMALL, variables, "masked")


def assert_close(logits, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=ROUNDING * scale)


def all_gates(opened, images=16):
    return jnp.full((images, 5), opened)


def test_all_gates_open_is_the_plain_network(engine, variables):
    plain = Plain(BACKBONE)
    _, shared = partition(variables["params"], "/gate/")
    stripped = {"params": shared, "stats": variables["stats"]}
    (expected,) = jax.jit(plain.predict, static_argnums=2)(stripped, IMAGES, (FULL,), None)
    found = engine(IMAGES, FULL, 0.6, gates=all_gates(True))
    assert_close(found.logits[0], expected.logits[0])


def test_all_gates_closed_is_the_stem_the_shortcuts_and_the_head(engine, variables):
    stem, *_, head = SMALL.segments(FULL)
    x = stem.code.open(stem.take(variables), {"image": IMAGES})["x"]
    # Shortcuts of a map without negative numbers: identity, or pooling and zero channels.
    x = pad_channels(average_pool_2x2(pad_channels(average_pool_2x2(x), 16)), 32)
    (expected,) = head.code.open(head.take(variables), {"x": x})["logits"]
    found = engine(IMAGES, FULL, 0.6, gates=all_gates(False))
    assert_close(found.logits[0], expected)


def test_a_gate_whose_logit_is_exactly_zero_is_open(variables):
    undecided = build_engine(SMALL, with_gate_logits(SMALL, variables, [0.0] * 5), "masked")
    ours, theirs = undecided(IMAGES, FULL, 0.6), undecided(IMAGES, FULL, 0.6, all_gates(True))
    assert not ours.gates.any()
    assert_close(ours.logits[0], theirs.logits[0])


def test_injected_gates_replace_the_decisions_but_not_the_reported_logits(engine):
    free = engine(IMAGES, FULL, 0.6)
    injected = engine(IMAGES, FULL, 0.6, gates=free.gates < 0)
    # The first gate sees the same stem; the later ones see another way through the network.
    np.testing.assert_allclose(injected.gates[:, 0], free.gates[:, 0], atol=ROUNDING)
    assert np.abs(injected.logits[0] - free.logits[0]).max() > 1e-2


def test_each_image_goes_its_own_way(engine):
    mixed = jnp.arange(16)[:, None] % 2 == jnp.zeros((1, 5))
    rows = [
        engine(IMAGES, FULL, 0.6, gates=all_gates(opened)).logits[0] for opened in (False, True)
    ]
    found = engine(IMAGES, FULL, 0.6, gates=mixed).logits[0]
    assert_close(found[0::2], rows[1][0::2])
    assert_close(found[1::2], rows[0][1::2])


def test_an_image_of_nan_spoils_no_other_image(engine):
    spoilt = IMAGES.copy()
    spoilt[3] = np.nan
    clean, found = (engine(images, FULL, 0.6).logits[0] for images in (IMAGES, spoilt))
    others = np.arange(16) != 3
    assert np.isnan(found[3]).all()
    # The same program, and no number of a row reaches another.
    np.testing.assert_array_equal(found[others], clean[others])


@pytest.fixture(scope="module")
def overflowing(variables):
    """The same weights, but the residual of block 2 is infinite and its gate closed."""
    decided = with_gate_logits(SMALL, variables, [1, -1, 1, 1, 1])
    scale = decided["params"]["stage1"]["blocks"]["bn2"]["scale"]
    decided["params"]["stage1"]["blocks"]["bn2"]["scale"] = scale.at[1].set(jnp.inf)
    return decided


@pytest.mark.parametrize("form", ["engine", "masked forward"])
def test_a_closed_block_that_overflows_does_not_reach_the_output(variables, overflowing, form):
    def run(variables):
        if form == "engine":
            return build_engine(SMALL, variables, "masked")(IMAGES, FULL, 0.6).logits[0]
        predict = jax.jit(SMALL.predict, static_argnums=2)
        return predict(variables, IMAGES, (FULL,), jnp.float32(0.6))[0].logits[0]

    finite = with_gate_logits(SMALL, variables, [1, -1, 1, 1, 1])
    np.testing.assert_array_equal(run(overflowing), run(finite))


def test_an_open_block_that_overflows_does(overflowing):
    found = build_engine(SMALL, overflowing, "masked")(IMAGES, FULL, 0.6, gates=all_gates(True))
    assert not np.isfinite(found.logits[0]).any()


def test_a_single_image_is_predicted_as_in_its_batch(engine):
    batch, single = engine(IMAGES, FULL, 0.6), engine(IMAGES[5:6], FULL, 0.6)
    assert single.logits[0].shape == (1, 5)
    assert_close(single.logits[0], batch.logits[0][5:6])
    assert_close(single.gates, batch.gates[5:6])


def test_an_operating_point_not_asked_for_is_the_fullest(engine):
    ours, theirs = engine(IMAGES, budget=0.6), engine(IMAGES, FULL, 0.6)
    np.testing.assert_array_equal(ours.logits[0], theirs.logits[0])


@pytest.fixture
def compilations(caplog):
    """The names of the programs that JAX compiles from here on."""

    def names():
        return [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]

    with caplog.at_level(logging.WARNING), jax.log_compiles():
        yield names


def test_another_budget_does_not_compile_again(engine, compilations):
    engine(IMAGES, FULL, 0.2)
    before = len(compilations())
    low, high = engine(IMAGES, FULL, 0.3), engine(IMAGES, FULL, 0.9)
    assert len(compilations()) == before
    assert (low.gates != high.gates).any()


def test_another_batch_size_compiles_once(engine, compilations):
    # What the test above would see if the budget were static.
    engine(IMAGES[:3], FULL, 0.2)
    assert sum("run_engine" in name for name in compilations()) == 1
    engine(IMAGES[3:6], FULL, 0.2)
    assert sum("run_engine" in name for name in compilations()) == 1


def test_a_network_without_gates_runs_without_a_budget(variables):
    plain = Plain(BACKBONE)
    _, shared = partition(variables["params"], "/gate/")
    stripped = {"params": shared, "stats": variables["stats"]}
    (expected,) = jax.jit(plain.predict, static_argnums=2)(stripped, IMAGES, (FULL,), None)
    found = build_engine(plain, stripped, "masked")(IMAGES)
    assert found.gates is None
    assert_close(found.logits[0], expected.logits[0])


@pytest.fixture(scope="module")
def ready():
    """Variables of a `Toy` whose statistics all count as estimated."""
    fresh = jax.jit(Toy().init)(jax.random.key(0), IMAGES)
    return {"params": fresh["params"], "stats": jax.tree.map(lambda a: a + 1, fresh["stats"])}


SHALLOW, DEEP = Subnet("depth", (1,)), Subnet("depth", (2,))


@pytest.mark.parametrize(
    "built_for,runs",
    [([SHALLOW], SHALLOW), ([SHALLOW, DEEP], DEEP), ([], DEEP), (None, DEEP)],
    ids=["one", "several", "none", "all"],
)
def test_an_engine_runs_its_only_point_or_else_the_fullest_where_none_is_named(
    ready, built_for, runs
):
    engine = build_engine(Toy(), ready, "masked", built_for)
    np.testing.assert_array_equal(engine(IMAGES).logits[0], engine(IMAGES, runs).logits[0])
    assert (engine(IMAGES).gates is None) == (runs == SHALLOW)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_network_the_engine_has_never_seen_runs_at_each_of_its_points(ready, depth):
    network, subnet = Toy(), Subnet("depth", (depth,))
    (expected,) = jax.jit(network.predict, static_argnums=2)(ready, IMAGES, (subnet,), None)
    found = build_engine(network, ready, "masked")(IMAGES, subnet)
    assert_close(found.logits[0], expected.logits[0])
    assert (found.gates is None) == (expected.gates is None) == (depth == 1)


@pytest.mark.parametrize(
    "shape,message",
    [
        ((0, 8, 8, 3), r"images have shape \(0, 8, 8, 3\); \(B, H, W, channels\) with B > 0"),
        ((8, 8, 3), r"images have shape \(8, 8, 3\)"),
    ],
    ids=["empty", "no batch axis"],
)
def test_images_that_are_no_batch_are_refused(engine, shape, message):
    with pytest.raises(UsageError, match=message):
        engine(np.zeros(shape, np.float32), FULL, 0.6)


@pytest.mark.parametrize("budget,message", [(1.3, "1.3 is outside"), (None, "needs a budget")])
def test_budgets_that_no_network_takes_are_refused(engine, budget, message):
    with pytest.raises(UsageError, match=message):
        engine(IMAGES, FULL, budget)


def test_an_operating_point_the_network_does_not_have_is_refused(engine):
    with pytest.raises(UsageError, match="width:3 does not fit"):
        engine(IMAGES, Subnet("width", (3,)), 0.6)


def test_statistics_that_were_never_estimated_are_refused(variables):
    zeros = jax.tree.map(jnp.zeros_like, variables["stats"])
    with pytest.raises(UsageError, match=r"never estimated .* recalibrate"):
        build_engine(SMALL, {"params": variables["params"], "stats": zeros})


def test_images_that_were_not_normalised_are_refused(engine):
    with pytest.raises(UsageError, match=r"images are uint8; floats; normalise them"):
        engine(jnp.zeros((2, 8, 8, 3), jnp.uint8), FULL, 0.6)


def test_images_of_other_channels_are_refused_at_the_first_call(variables):
    engine = build_engine(SMALL, variables, "masked")
    with pytest.raises(UsageError, match="channels of images is 1; 3 for this network"):
        engine(IMAGES[..., :1], FULL, 0.6)


def test_equal_codes_with_arrays_of_other_shapes_run_one_after_the_other():
    segments = (
        Segment("a", Affine(), lambda variables: {"w": variables["a"]}),
        Segment("b", Affine(), lambda variables: {"w": variables["b"]}),
        Segment("c", Affine(), lambda variables: {"w": variables["c"]}),
        Segment("d", Halve(), lambda variables: {}),
        Segment("e", Halve(), lambda variables: {}),
    )
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4), "b": (4, 4), "c": (4, 4)}
    weights = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
    x = rng.normal(size=(2, 3))

    runs, owns = stack_runs(segments, weights)
    carry, gates = run_segments(runs, owns, {"x": jnp.asarray(x)}, None, None, masked)

    assert [run.length for run in runs] == [1, 2, 2]
    assert gates is None
    expected = (x @ weights["a"] @ weights["b"] @ weights["c"])[:, ::4]
    np.testing.assert_allclose(carry["x"], expected, rtol=1e-5)


def test_an_unknown_engine_is_refused_with_the_names_of_the_known(variables):
    with pytest.raises(UsageError, match=r"unknown engine 'fast'; one of .*masked"):
        build_engine(SMALL, variables, "fast")


@pytest.mark.parametrize("shape", [(16, 9), (16, 4), (8, 5), (5,)], ids=str)
def test_gates_of_another_shape_are_refused(engine, shape):
    with pytest.raises(UsageError, match=r"gates have shape .*; \(16, 5\) here"):
        engine(IMAGES, FULL, 0.6, gates=jnp.ones(shape, bool))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_gates_that_are_no_decisions_are_refused(engine, dtype):
    with pytest.raises(UsageError, match=r"gates are .*32; bool; pass prediction.gates >= 0"):
        engine(IMAGES, FULL, 0.6, gates=np.ones((16, 5), dtype))


def test_an_operating_point_as_text_is_refused_with_what_reads_it(engine):
    with pytest.raises(UsageError, match=r"pass jax_elastic\.Subnet\.parse\('capacity:0\.5'\)"):
        engine(IMAGES, "capacity:0.5")


def test_a_point_without_values_is_refused_by_name(engine):
    with pytest.raises(UsageError, match="blocks: takes 5 numbers"):
        engine(IMAGES, Subnet("blocks"))


def test_a_network_without_gates_refuses_gates():
    plain = build_engine(Plain(BACKBONE), warmed(Plain(BACKBONE)))
    with pytest.raises(UsageError, match=r"; \(16, 0\) here"):
        plain(IMAGES, gates=all_gates(True))


def test_a_network_whose_gates_are_random_asks_for_keys(variables):
    _, shared = partition(variables["params"], "/gate/")
    engine = build_engine(RandomDrop(BACKBONE), {"params": shared, "stats": variables["stats"]})
    with pytest.raises(UsageError) as error:
        engine(IMAGES, FULL, 0.6)
    assert str(error.value) == (
        "keys are missing; this network's gates are random; "
        "pass jax.random.split(jax.random.key(0), 16)"
    )


def test_a_network_that_draws_nothing_refuses_keys(engine):
    with pytest.raises(UsageError) as error:
        engine(IMAGES, FULL, 0.6, keys=jax.random.split(jax.random.key(0), 16))
    assert str(error.value) == ("keys have shape (16,); this network draws nothing; leave keys out")
