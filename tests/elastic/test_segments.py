"""Law 1: the network in one piece and the engine over its segments are one function."""

import dataclasses
import functools

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from thorough import thorough
from warm import cast, keys_of, random_images, shapes_of, warmed

from jax_elastic.elastic.family import Family
from jax_elastic.elastic.segments import Take, take_nothing
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import FULL

BUDGETS = (0.2, 0.6, 1.0)
RESNETS = [name for name, network in families.SMALL.items() if network.subnets.axis == "full"]
# Far enough from the threshold that rounding opens or closes no gate.
SAFE = 1e-3
# Law 1, relative to the largest logit.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


@functools.cache
def whole_program(network):
    """The network in one piece, jitted; shared by all its weights."""
    return jax.jit(network.predict, static_argnums=2)


@dataclasses.dataclass
class Case:
    """One network with random weights, in one dtype, in both forms."""

    network: Family
    variables: dict
    images: jax.Array
    keys: jax.Array | None

    def __post_init__(self):
        self.engine = build_engine(self.network, self.variables, "masked")

    def whole(self, subnet, budget):
        asked = None if budget is None else jnp.float32(budget)
        predict = whole_program(self.network)
        (prediction,) = predict(self.variables, self.images, (subnet,), asked, self.keys)
        return prediction

    def by_segments(self, subnet, budget, gates=None):
        return self.engine(self.images, subnet, budget, gates, self.keys)


@functools.cache
def make_case(name, dtype, seed):
    """Called under the x64 mode of `dtype`."""
    network = dataclasses.replace(families.ALL[name], dtype=dtype)
    with jax.enable_x64(False):
        variables = warmed(families.ALL[name], seed)
    images = jnp.asarray(random_images(16, 1), dtype)
    return Case(network, cast(variables, dtype), images, keys_of(network, 16))


# Type and seed of the weights.
PRECISIONS = (("float64", 0), ("float64", 9), ("float32", 9))


@pytest.fixture(params=PRECISIONS, ids=str)
def precision(request):
    dtype, _ = request.param
    with jax.enable_x64(dtype == "float64"):
        yield request.param


def with_budgets(name, subnet):
    """A test's arguments at one operating point; budgets only where a network takes them."""
    return [(name, subnet, s) for s in (BUDGETS if families.ALL[name].budgets else (None,))]


POINTS = [case for point in families.POINTS for case in with_budgets(*point.values)]
# In float32, what rounding could harm is of a kind of segment: gates, a plan, resizing, branches.
IN_FLOAT32 = ("urnet", "external", "resizable", "iresnext")
# Whose segments are of the kinds of other networks.
VARIANTS = ("urnet_fixed", "soft_drop", "resnext")


def of_each_kind(precision, name, subnet, budget):
    if name in VARIANTS:
        return False
    return precision == ("float64", 0) or name in IN_FLOAT32


EVERYWHERE = pytest.mark.parametrize(
    "precision,name,subnet,budget",
    thorough(
        [(precision, *point) for precision in PRECISIONS for point in POINTS],
        of_each_kind,
    ),
    indirect=["precision"],
)


def assert_one_function(ours, theirs, dtype):
    assert ours.dtype == theirs.dtype
    tolerance = TOLERANCES[dtype] * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@EVERYWHERE
def test_segments_compute_the_whole_network_under_the_same_gates(precision, name, subnet, budget):
    case = make_case(name, *precision)
    whole = case.whole(subnet, budget)
    gates = None if whole.gates is None else whole.gates >= 0
    found = case.by_segments(subnet, budget, gates)
    assert whole.logits[0].dtype == case.network.dtype
    assert_one_function(found.logits[0], whole.logits[0], case.network.dtype)
    if gates is None:
        assert found.gates is None
    else:
        assert_one_function(found.gates, whole.gates, case.network.dtype)


@EVERYWHERE
def test_segments_left_free_decide_and_compute_as_the_whole_network(
    precision, name, subnet, budget
):
    case = make_case(name, *precision)
    whole, found = case.whole(subnet, budget), case.by_segments(subnet, budget)
    gates = np.ones((16, 1)) if whole.gates is None else np.asarray(whole.gates)
    safe = np.abs(gates).min(1) > SAFE
    assert safe.sum() >= 12  # of 16; none is left out in most cases
    if whole.gates is not None:
        np.testing.assert_array_equal(np.asarray(found.gates >= 0)[safe], (gates >= 0)[safe])
    ours, theirs = (np.asarray(form.logits[0])[safe] for form in (found, whole))
    assert_one_function(ours, theirs, case.network.dtype)


def test_a_budget_may_be_a_plain_number_in_every_precision(precision):
    case = make_case("urnet", *precision)
    (prediction,) = whole_program(case.network)(case.variables, case.images, (FULL,), 0.6)
    assert_one_function(prediction.gates, case.whole(FULL, 0.6).gates, case.network.dtype)


def test_the_random_weights_open_and_close_gates_by_image_and_budget(precision):
    # Otherwise the tests above would show little.
    case = make_case("urnet", *precision)
    opened = np.stack([np.asarray(case.whole(FULL, budget).gates) >= 0 for budget in BUDGETS])
    assert (opened != opened[:, :1]).any()
    assert (opened != opened[:1]).any()


def numbered(network):
    """Variables whose every number is another; and the numbers of those that are served."""
    leaves, structure = jax.tree.flatten(shapes_of(network))
    starts = np.cumsum([0, *(leaf.size for leaf in leaves)])
    numbers = [
        np.arange(start, start + leaf.size).reshape(leaf.shape)
        for start, leaf in zip(starts, leaves, strict=False)
    ]
    variables = jax.tree.unflatten(structure, numbers)
    served = [np.ravel(leaf) for leaf in jax.tree.leaves(without_train_only(variables))]
    return variables, np.concatenate(served)


# Banks of BN are as wide as the widest sub-network, so not every number is somebody's.
@pytest.mark.parametrize(
    "name", [name for name in families.SMALL if name not in families.OF_ITS_OWN]
)
def test_segments_read_every_number_of_the_network_and_no_parameter_twice(name):
    network = families.SMALL[name]
    variables, served = numbered(network)
    point = families.EVERYTHING.get(name, network.subnets.fullest)
    owns = [segment.take(variables) for segment in network.segments(point)]
    # Beside the collections a segment may have numbers that say which one of its kind it is.
    params, stats = (
        np.concatenate([np.ravel(leaf) for own in owns for leaf in jax.tree.leaves(own.get(name))])
        for name in ("params", "stats")
    )
    np.testing.assert_array_equal(np.unique([*params, *stats]), np.sort(served))
    assert len(np.unique(params)) == len(params)  # a layer of increments has one count for all


@pytest.mark.parametrize(
    "name,plan,role",
    [
        ("plain", [], "fixed"),
        ("urnet", [], "gated"),
        ("urnet_fixed", [], "gated"),
        ("urnet_soft", [], "fixed"),
        ("soft_drop", ["plan"], "gated"),
        ("random_drop", ["plan"], "gated"),
        ("external", ["policy"], "gated"),
    ],
)
def test_a_network_is_its_plan_if_any_its_stem_its_blocks_and_its_head(name, plan, role):
    segments = families.SMALL[name].segments(FULL)
    blocks = [f"block{n}" for n in range(1, 6)]
    assert [segment.name for segment in segments] == [*plan, "stem", *blocks, "head"]
    roles = [segment.role for segment in segments]
    assert roles == [*["plan" for _ in plan], "fixed", *[role] * 5, "fixed"]


@pytest.mark.parametrize("name", RESNETS)
def test_equal_blocks_share_one_code_and_others_do_not(name):
    # Blocks 1 and 2 are a stack; 3 changes the shape; 4 and 5 have other widths.
    segments = families.SMALL[name].segments(FULL)
    codes = [segment.code for segment in segments if segment.name.startswith("block")]
    assert codes[0] == codes[1]
    assert hash(codes[0]) == hash(codes[1])
    assert len(set(codes)) == 4


@pytest.mark.parametrize("name", families.SMALL)
def test_codes_of_two_equal_networks_are_equal_so_that_jit_finds_its_cache(name):
    point = families.SMALL[name].subnets.fullest
    first, second = (dataclasses.replace(families.SMALL[name]).segments(point) for _ in range(2))
    assert [segment.code for segment in first] == [segment.code for segment in second]


def test_a_take_cuts_one_block_from_a_stack_in_every_collection():
    variables = {
        "params": {"stage1": {"blocks": {"kernel": np.arange(6).reshape(3, 2)}}},
        "stats": {"stage1": {"blocks": {"count": np.arange(3)}}},
    }
    own = Take(("stage1", "blocks"), 1)(variables)
    expected = {"params": {"kernel": np.array([2, 3])}, "stats": {"count": np.int64(1)}}
    chex.assert_trees_all_equal(own, expected)


@pytest.mark.parametrize("stats", [{}, {"head": {}}, {"stage1": {}}])
def test_a_take_leaves_out_a_collection_that_the_module_does_not_have(stats):
    variables = {"params": {"head": {"classifier": {"bias": 1}}}, "stats": stats}
    assert Take(("head", "classifier"))(variables) == {"params": {"bias": 1}}


@pytest.mark.parametrize("path", [("plan",), ("head", "plan"), ("plan", "head")], ids="/".join)
def test_a_take_of_a_module_that_no_collection_has_is_an_error(path):
    variables = {"params": {"head": {"classifier": {"bias": 1}}}, "stats": {"head": {}}}
    with pytest.raises(ValueError, match=f"no module {'/'.join(path)} in any of params, stats"):
        Take(path)(variables)


def test_a_segment_may_take_nothing():
    assert take_nothing({"params": {"head": {"bias": 1}}, "stats": {}}) == {}
