"""Law 1 for the engine `sequential`, and that what it skips is really not computed."""

import collections
import dataclasses
import functools
import itertools

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warm import SMALL, cast, random_images, warmed, with_gate_logits

from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load
from jax_elastic.elastic.family import Code, Family
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.subnet import FULL

# Law 1, relative to the largest logit.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
# Far enough from the threshold that rounding opens or closes no gate.
SAFE = 1e-3
BUDGET = 0.6
GATED = [
    name
    for name, network in families.ALL.items()
    if any(segment.role == "gated" for segment in network.segments(network.subnets.fullest))
]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A network that computes in float32, its variables, and images (B, H, W, C)."""

    network: Family
    variables: dict
    images: np.ndarray


def random_weights(name):
    return Case(families.ALL[name], warmed(families.ALL[name], 9), random_images(8, 1))


def trained_weights(name):
    network, variables, experiment = pretrained(name)
    images = load(experiment.data, "test").images[:32]
    return Case(network, variables, np.asarray(normalise(jnp.asarray(images), experiment.data)))


# What law 1 is tested over: name -> makes a case. Another network or other weights are one line.
CASES = {
    **{f"{name}-random": functools.partial(random_weights, name) for name in GATED},
    "urnet-trained": functools.partial(trained_weights, "urnet_digits"),
}


@functools.cache
def make(name, dtype):
    """Called under the x64 mode of `dtype`."""
    with jax.enable_x64(False):
        case = CASES[name]()
    network = dataclasses.replace(case.network, dtype=dtype)
    return Case(network, cast(case.variables, dtype), jnp.asarray(case.images, dtype))


@pytest.fixture(params=TOLERANCES)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def asked_of(network):
    """The budget and, as a function of the batch size, the keys that a network takes."""
    budget = BUDGET if network.budgets else None
    return (
        budget,
        lambda size: jax.random.split(jax.random.key(5), size) if network.random else None,
    )


@functools.cache
def jitted(network):
    return jax.jit(network.predict, static_argnums=2)


@functools.cache
def built(case, engine):
    return build_engine(case.network, case.variables, engine)


def by_masked_forward(case, images):
    budget, keys = asked_of(case.network)
    asked = None if budget is None else jnp.float32(budget)
    point = (case.network.subnets.fullest,)
    (found,) = jitted(case.network)(case.variables, images, point, asked, keys(len(images)))
    return found


def by_engine(case, images, gates=None, engine="sequential"):
    budget, keys = asked_of(case.network)
    return built(case, engine)(images, budget=budget, gates=gates, keys=keys(len(images)))


def assert_one_function(found, expected, dtype):
    (found,), (expected,) = found.logits, expected.logits
    assert found.dtype == expected.dtype == dtype
    tolerance = TOLERANCES[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_masked_forward_under_the_same_gates(name, dtype):
    case = make(name, dtype)
    expected = by_masked_forward(case, case.images)

    found = by_engine(case, case.images, gates=expected.gates >= 0)

    assert_one_function(found, expected, dtype)


@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_masked_forward_where_rounding_turns_no_gate(name, dtype, record_property):
    case = make(name, dtype)
    expected = by_masked_forward(case, case.images)

    found = by_engine(case, case.images)

    safe = np.abs(expected.gates).min(1) > SAFE
    assert safe.any()
    same = ((found.gates >= 0) == (expected.gates >= 0)).all(1)
    record_property("near the threshold", int((~safe).sum()))
    record_property("of these flipped", int((~same & ~safe).sum()))
    assert same[safe].all()
    tolerance = TOLERANCES[dtype] * np.abs(expected.logits[0]).max()
    np.testing.assert_allclose(
        found.logits[0][same], expected.logits[0][same], rtol=0, atol=tolerance
    )


@pytest.mark.parametrize(("name", "size"), [*((name, 1) for name in CASES), ("urnet-random", 3)])
def test_a_batch_of_any_size_is_computed_as_by_the_masked_forward(name, size):
    with jax.enable_x64(True):
        case = make(name, "float64")
        expected = by_masked_forward(case, case.images[:size])
        found = by_engine(case, case.images[:size], gates=expected.gates >= 0)
        assert_one_function(found, expected, "float64")


@pytest.mark.parametrize("opened", [True, False], ids=["all open", "all closed"])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_masking_does_with_all_gates_alike(name, opened):
    with jax.enable_x64(True):
        case = make(name, "float64")
        gates = jnp.full(by_masked_forward(case, case.images).gates.shape, opened)
        found, expected = (by_engine(case, case.images, gates, e) for e in ("sequential", "masked"))
        assert_one_function(found, expected, "float64")


# Of all families, these gates answer what their last bias says.
DECIDED = ["urnet", "urnet-bottlenecks"]


def with_decisions(case, logits):
    """The case with these gate logits, one after the other and again from the first."""
    cycle = itertools.cycle(logits)
    logits = [next(cycle) for _ in range(case.network.backbone.num_blocks)]
    variables = with_gate_logits(case.network, case.variables, logits)
    return dataclasses.replace(case, variables=variables)


@pytest.mark.parametrize(
    ("logits", "size"),
    [([1e-4, -1e-4, 0.0], 1), ([1e-4, -1e-4, 0.0], 8), ([1.0], 8), ([-1.0], 8)],
    ids=str,
)
@pytest.mark.parametrize("name", DECIDED)
def test_gates_at_the_threshold_or_all_alike_decide_as_in_the_masked_forward(name, logits, size):
    case = with_decisions(make(f"{name}-random", "float32"), logits)
    expected = by_masked_forward(case, case.images[:size])

    found = by_engine(case, case.images[:size])

    np.testing.assert_array_equal(found.gates, expected.gates)
    assert_one_function(found, expected, "float32")


@pytest.mark.parametrize("spoilt", [np.inf, np.nan], ids=str)
@pytest.mark.parametrize("size", [1, 3])
def test_a_closed_block_that_overflows_does_not_reach_the_output(size, spoilt):
    case = with_decisions(make("urnet-random", "float32"), [1, -1, 1, 1, 1])
    images = case.images[:size]
    params = jax.tree.map(lambda leaf: leaf, case.variables["params"])
    scale = params["stage1"]["blocks"]["bn2"]["scale"]
    params["stage1"]["blocks"]["bn2"]["scale"] = scale.at[1].set(spoilt)
    broken = dataclasses.replace(case, variables={**case.variables, "params": params})

    found, expected = by_engine(broken, images), by_engine(case, images)

    np.testing.assert_array_equal(found.logits[0], expected.logits[0])
    opened = by_engine(broken, images, gates=jnp.ones((size, 5), bool))
    assert not np.isfinite(opened.logits[0]).any()


@pytest.mark.parametrize("name", CASES)
def test_an_image_of_nan_stays_in_its_row(name):
    case = make(name, "float32")
    spoilt = case.images.at[3].set(np.nan)
    clean = by_engine(case, case.images)

    found = by_engine(case, spoilt)

    others = np.arange(len(case.images)) != 3
    assert np.isnan(found.logits[0][3]).all()
    # The same program, and no number of a row reaches another.
    np.testing.assert_array_equal(found.logits[0][others], clean.logits[0][others])
    np.testing.assert_array_equal(found.gates[others], clean.gates[others])


# What is computed: the network below tells each time that a block's `open` really runs.

COMPUTED = []


@dataclasses.dataclass(frozen=True)
class NumberingCode:
    """A first segment that also hands on the place of each image in the batch."""

    code: Code

    def open(self, own, carry):
        return {**self.code.open(own, carry), "place": jnp.arange(len(carry["image"]))}


@dataclasses.dataclass(frozen=True)
class TellingCode:
    """A gated segment that tells (image, block) where it is opened."""

    code: Code

    def open(self, own, carry):
        jax.debug.callback(self._tell, own["block"], carry["place"])
        return self.code.open(own["own"], carry)

    def skip(self, own, carry):
        return self.code.skip(own["own"], carry)

    def gate(self, own, carry, budget):
        return self.code.gate(own["own"], carry, budget)

    @staticmethod
    def _tell(block, places):
        COMPUTED.extend((int(place), int(block)) for place in places)


class Telling:
    """A network whose gated segments are of `TellingCode`."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def segments(self, subnet):
        stem, *rest = self._network.segments(subnet)
        counter = itertools.count()
        yield dataclasses.replace(stem, code=NumberingCode(stem.code))
        for segment in rest:
            yield self._telling(segment, next(counter)) if segment.role == "gated" else segment

    @staticmethod
    def _telling(segment, block):
        def take(variables):
            return {"own": segment.take(variables), "block": jnp.int32(block)}

        return dataclasses.replace(segment, code=TellingCode(segment.code), take=take)


def computed(engine, images, gates):
    """How often each (image, block) was computed."""
    COMPUTED.clear()
    run = build_engine(Telling(SMALL), warmed(SMALL, 9), engine)
    jax.block_until_ready(run(images, FULL, BUDGET, gates))
    jax.effects_barrier()
    return collections.Counter(COMPUTED)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_block_is_computed_once_for_each_image_that_opens_it_and_for_no_other(size, share):
    gates = np.random.default_rng(4).uniform(size=(size, 5)) < share

    found = computed("sequential", random_images(size, 1), gates)

    assert found == {(int(image), int(block)): 1 for image, block in np.argwhere(gates)}


def test_masking_computes_every_block_of_every_image():
    found = computed("masked", random_images(3, 1), np.zeros((3, 5), bool))
    assert found == {(image, block): 1 for image in range(3) for block in range(5)}
