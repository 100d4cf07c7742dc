"""Law 1 for the ways that skip, and that what they skip is really not computed."""

import collections
import dataclasses
import functools
import itertools
import logging

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thorough import thorough
from warm import SMALL, cast, random_images, warmed, with_gate_logits

from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load
from jax_elastic.elastic.family import Code, Family
from jax_elastic.inference.auto import Fixed
from jax_elastic.inference.engine import Engine
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.inference.ways import Bucketed, Compacted, Gathered, Masked
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


# 8 images leave a part of a micro-batch and of a bucket empty.
WAYS = {
    "masked": Masked(),
    "sequential": Compacted(default=1),
    "compacted": Compacted(default=3),
    "bucketed": Bucketed(3),
}
SKIPPING = [name for name in WAYS if name != "masked"]
# What law 1 is tested over: name -> makes a case. Another network or other weights are one line.
CASES = {
    **{f"{name}-random": functools.partial(random_weights, name) for name in GATED},
    "urnet-trained": functools.partial(trained_weights, "urnet_digits"),
    "sgad-trained": functools.partial(trained_weights, "sgad_digits"),
}


# One of each kind of gate: a network's own, of blocks with projections, of a plan.
KINDS = ("urnet-random", "urnet-bottlenecks-random", "external-random")
# The way that engines take by default with every network, the others with one of each kind of gate.
LAWFUL = [
    *((name, "compacted") for name in CASES),
    *((name, way) for name in KINDS for way in ("sequential", "bucketed")),
]


# In float64 also a plan that follows the stem and leaves out the last block, and trained weights.
IN_FLOAT64 = ("sgad-random", "urnet-trained")


def of_each_kind(name, way, *rest):
    """Each kind of gate the way that engines take by default, and one kind each way."""
    return name in KINDS and (way == "compacted" or name == "urnet-random")


@functools.cache
def make(name, dtype):
    """Called under the x64 mode of `dtype`."""
    with jax.enable_x64(False):
        case = CASES[name]()
    network = dataclasses.replace(case.network, dtype=dtype)
    return Case(network, cast(case.variables, dtype), jnp.asarray(case.images, dtype))


@pytest.fixture
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
def built(case, way):
    return Engine(case.network, case.variables, way, Fixed(WAYS[way], ""))


def by_masked_forward(case, images):
    budget, keys = asked_of(case.network)
    asked = None if budget is None else jnp.float32(budget)
    point = (case.network.subnets.fullest,)
    (found,) = jitted(case.network)(case.variables, images, point, asked, keys(len(images)))
    return found


def by_engine(case, images, gates=None, way="compacted"):
    budget, keys = asked_of(case.network)
    return built(case, way)(images, budget=budget, gates=gates, keys=keys(len(images)))


def assert_one_function(found, expected, dtype):
    (found,), (expected,) = found.logits, expected.logits
    assert found.dtype == expected.dtype == dtype
    tolerance = TOLERANCES[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "way"),
    thorough(
        LAWFUL,
        lambda name, way: of_each_kind(name, way) or name in IN_FLOAT64,
    ),
)
def test_it_computes_the_masked_forward_under_the_same_gates(name, way):
    with jax.enable_x64(True):
        case = make(name, "float64")
        expected = by_masked_forward(case, case.images)
        found = by_engine(case, case.images, expected.gates >= 0, way)
        assert_one_function(found, expected, "float64")


@pytest.mark.parametrize("way", thorough(SKIPPING, "compacted".__eq__))
def test_in_bfloat16_it_differs_from_the_masked_forward_by_rounding_alone(way):
    with jax.enable_x64(False):
        case = CASES["urnet-random"]()
    case = dataclasses.replace(case, network=dataclasses.replace(case.network, dtype="bfloat16"))
    expected = by_masked_forward(case, case.images)
    found = by_engine(case, case.images, expected.gates >= 0, way)
    largest = np.abs(expected.logits[0]).max()
    np.testing.assert_allclose(found.logits[0], expected.logits[0], rtol=0, atol=0.02 * largest)


@pytest.mark.parametrize(
    ("name", "dtype"),
    thorough(
        list(itertools.product(CASES, TOLERANCES)),
        lambda name, dtype: name in KINDS or (dtype == "float64" and name in IN_FLOAT64),
    ),
    indirect=["dtype"],
)
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


@pytest.mark.parametrize(
    ("name", "size", "way"),
    thorough(
        [
            *((name, 1, "compacted") for name in CASES),
            *(("urnet-random", size, way) for size in (2, 5) for way in SKIPPING),
        ],
        lambda name, size, way: name == "urnet-random" and size != 2,
    ),
)
def test_a_batch_of_any_size_is_computed_as_by_the_masked_forward(name, size, way):
    with jax.enable_x64(True):
        case = make(name, "float64")
        expected = by_masked_forward(case, case.images[:size])
        found = by_engine(case, case.images[:size], expected.gates >= 0, way)
        assert_one_function(found, expected, "float64")


@pytest.mark.parametrize("opened", [True, False], ids=["all open", "all closed"])
@pytest.mark.parametrize(("name", "way"), thorough(LAWFUL, of_each_kind))
def test_it_computes_what_masking_does_with_all_gates_alike(name, way, opened):
    with jax.enable_x64(True):
        case = make(name, "float64")
        gates = np.full(by_masked_forward(case, case.images).gates.shape, opened)
        found, expected = (by_engine(case, case.images, gates, w) for w in (way, "masked"))
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
@pytest.mark.parametrize(("size", "way"), [(1, "compacted"), *((8, way) for way in SKIPPING)])
def test_a_closed_block_that_overflows_does_not_reach_the_output(size, way, spoilt):
    case = with_decisions(make("urnet-random", "float32"), [1, -1, 1, 1, 1])
    images = case.images[:size]
    params = jax.tree.map(lambda leaf: leaf, case.variables["params"])
    scale = params["stage1"]["blocks"]["bn2"]["scale"]
    params["stage1"]["blocks"]["bn2"]["scale"] = scale.at[1].set(spoilt)
    broken = dataclasses.replace(case, variables={**case.variables, "params": params})

    found, expected = by_engine(broken, images, way=way), by_engine(case, images, way=way)

    np.testing.assert_array_equal(found.logits[0], expected.logits[0])
    opened = by_engine(broken, images, np.ones((size, 5), bool), way)
    assert not np.isfinite(opened.logits[0]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize(
    ("name", "way"),
    thorough(
        [
            *((name, "compacted") for name in CASES),
            *(("urnet-random", way) for way in WAYS if way != "compacted"),
        ],
        of_each_kind,
    ),
)
def test_an_image_that_is_not_finite_stays_in_its_row(name, way, value):
    case = make(name, "float32")
    spoilt = case.images.at[3, 0, 0].set(value)
    clean = by_engine(case, case.images, way=way)

    found = by_engine(case, spoilt, way=way)

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


@functools.cache
def telling(way):
    return Engine(Telling(SMALL), warmed(SMALL, 9), way, Fixed(WAYS[way], ""))


def computed(way, images, gates):
    """How often each (image, block) was computed."""
    COMPUTED.clear()
    jax.block_until_ready(telling(way)(images, FULL, BUDGET, gates))
    jax.effects_barrier()
    return collections.Counter(COMPUTED)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_block_is_computed_once_for_each_image_that_opens_it_and_for_no_other(size, share):
    gates = np.random.default_rng(4).uniform(size=(size, 5)) < share

    found = computed("sequential", random_images(size, 1), gates)

    assert found == {(int(image), int(block)): 1 for image, block in np.argwhere(gates)}


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("way", WAYS)
def test_a_block_is_computed_for_as_many_images_as_the_way_says(way, share):
    gates = np.random.default_rng(4).uniform(size=(8, 5)) < share

    found = computed(way, random_images(8, 1), gates)

    blocks = range(5)
    images = [sum(n for (_, b), n in found.items() if b == block) for block in blocks]
    np.testing.assert_array_equal(images, WAYS[way].computed(None, gates.sum(0), 8))
    assert all(found[int(image), int(block)] for image, block in np.argwhere(gates))


def test_masking_computes_every_block_of_every_image():
    found = computed("masked", random_images(8, 1), np.zeros((8, 5), bool))
    assert found == {(image, block): 1 for image in range(8) for block in range(5)}


@pytest.mark.parametrize("passing", [1, 4, 8])
def test_as_many_as_may_pass_are_computed_whoever_they_are(passing):
    assert Gathered(passing).computed(None, np.array([0, 1]), 8).tolist() == [passing] * 2


def test_patterns_and_budgets_that_change_from_call_to_call_compile_nothing(caplog):
    case = make("urnet-random", "float32")
    engine = built(case, "compacted")
    engine(case.images, FULL, BUDGET)
    patterns = [np.random.default_rng(i).uniform(size=(8, 5)) < i / 5 for i in range(6)]
    engine(case.images, FULL, BUDGET, patterns[0])

    with caplog.at_level(logging.WARNING), jax.log_compiles():
        found = [engine(case.images, FULL, BUDGET, gates).logits[0] for gates in patterns]
        found += [engine(case.images, FULL, budget).logits[0] for budget in (0.1, 0.9)]

    assert not [r for r in caplog.records if r.getMessage().startswith("Compiling")]
    assert len({np.asarray(logits).tobytes() for logits in found}) >= 7


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    batch=st.integers(1, 12),
    opened=st.integers(0, 12),
)
def test_the_work_is_never_less_than_what_is_open_nor_more_than_one_micro_batch_above(
    sizes, batch, opened
):
    opened = min(opened, batch)
    way = Compacted(tuple((f"code{i}", size) for i, size in enumerate(sizes)))
    for i in range(len(sizes)):
        found = int(way.computed(f"code{i}", np.array([opened]), batch)[0])
        assert opened <= found < opened + way.size(f"code{i}", batch)
