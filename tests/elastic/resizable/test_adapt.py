"""A choice of the operating point by each image: what runs, what it costs, what is learnt."""

import dataclasses
import functools

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from flax.traverse_util import flatten_dict

from jax_elastic.elastic.borrow import borrow_banks
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.family import Draw
from jax_elastic.elastic.registry import FAMILIES
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.auto import Fixed
from jax_elastic.inference.engine import Engine, build_engine
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.inference.ways import Compacted
from jax_elastic.subnet import Subnet
from jax_elastic.training.config import build
from jax_elastic.training.init_from import match_leaves

BASE = families.RESIZABLE
POOL = "resolution:1,1;resolution:0.5,0.5;resolution:1,0.5"
NET = Adapt(BASE, POOL, width=8)
CHEAP, MIDDLE, FULL = (Subnet("resolution", scales) for scales in ((0.5, 0.5), (1, 0.5), (1, 1)))
ONE, TWO, THREE = NET.subnets
SIZE = 12


@functools.cache
def spread():
    """Random weights with which every candidate is chosen by some of the images below."""
    variables = warm.warmed(NET)

    @jax.jit
    def choice_logits(variables, images):
        carry = {"image": images}
        for segment in NET.segments(THREE):
            if segment.role != "gated":
                carry = segment.code.open(segment.take(variables), carry)
        return carry["choice_logits"]

    params = {**variables["params"], "learner": dict(variables["params"]["learner"])}
    last = params["learner"]["logits"]
    seen = choice_logits(variables, warm.random_images(SIZE))
    std = seen.std(0)
    params["learner"]["logits"] = {
        "kernel": last["kernel"] / std,
        "bias": (last["bias"] - seen.mean(0)) / std,
    }
    return {"params": params, "stats": variables["stats"]}


@functools.cache
def predicted():
    """What the network says of the images at every operating point of its own and of its base."""
    points = (*NET.subnets, CHEAP, MIDDLE, FULL)
    predict = jax.jit(NET.predict, static_argnums=2)
    found = predict(spread(), warm.random_images(SIZE), points, None)
    return dict(zip(points, jax.device_get(found), strict=True))


@functools.cache
def step(bn):
    """((loss, aux), gradients) of a batch of which one image is masked."""
    batch = warm.random_batch(SIZE, classes=NET.targets)
    batch["mask"] = batch["mask"].at[0].set(0)

    @jax.jit
    def run(variables, batch):
        def loss(params):
            both = {"params": params, "stats": variables["stats"]}
            return NET.loss(both, batch, Draw(THREE), jax.random.key(0), "learner", bn)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return run(spread(), batch), batch


def test_candidates_are_ordered_by_what_they_cost_and_not_by_the_pool():
    assert NET.candidates == (CHEAP, MIDDLE, FULL)


def test_without_a_pool_the_candidates_are_one_for_each_scale():
    assert Adapt(BASE).candidates == (CHEAP, FULL)


def test_every_candidate_is_chosen_by_some_image():
    # Otherwise the tests below would show little.
    assert set(predicted()[THREE].choice.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("allowed", [2, 3])
def test_an_image_has_the_answer_of_what_it_chose_among_the_first_k(allowed):
    found = predicted()[Subnet("adapt", (allowed,))]
    of_each = np.stack([predicted()[point].logits[0] for point in NET.candidates])
    assert found.choice.max() == allowed - 1
    np.testing.assert_array_equal(found.logits[0], of_each[found.choice, np.arange(SIZE)])


def test_a_choice_of_those_that_are_allowed_stays_when_others_are_taken_away():
    two, three = predicted()[TWO].choice, predicted()[THREE].choice
    np.testing.assert_array_equal(two[three < 2], three[three < 2])


def test_where_one_candidate_is_allowed_nothing_is_chosen_and_it_is_run():
    alone, cheapest = predicted()[ONE], predicted()[CHEAP]
    assert alone.choice is None and alone.gates is None
    np.testing.assert_array_equal(alone.logits[0], cheapest.logits[0])


@pytest.mark.parametrize("point", [ONE, CHEAP, MIDDLE, FULL], ids=str)
def test_an_operating_point_of_the_base_is_run_as_in_the_base(point):
    assert NET.segments(point) == BASE.segments(CHEAP if point == ONE else point)


def test_an_engine_runs_for_each_image_what_it_would_alone():
    with jax.enable_x64(False):
        single = spread()
    with jax.enable_x64(True):
        network = dataclasses.replace(NET, dtype="float64")
        variables = warm.cast(single, "float64")
        images = jnp.asarray(warm.random_images(SIZE), "float64")
        engine = Engine(network, variables, "compacted", Fixed(Compacted(default=4), ""), [THREE])
        base = dataclasses.replace(BASE, dtype="float64")
        alone = jax.jit(base.predict, static_argnums=2)

        found = engine(images, THREE)

        assert set(found.choice.tolist()) == {0, 1, 2}
        answers = [alone(variables, images[i : i + 1], NET.candidates, None) for i in range(SIZE)]
        of_choice = [answers[i][choice].logits[0] for i, choice in enumerate(found.choice)]
        np.testing.assert_allclose(found.logits[0], jnp.concatenate(of_choice), rtol=0, atol=1e-10)


def test_an_image_costs_the_probe_the_learner_and_what_it_chose_beside_the_probe():
    costs, base = CostModel(NET, (8, 8, 3)), CostModel(BASE, (8, 8, 3))
    alone = [base.cost(point).full for point in NET.candidates]
    learner = 9 * (8 * 8 + 9 * 8 * 8 + 9 * 8 * 8) + 8 * 3  # on maps of 3 x 3 of 8 channels

    cost = costs.cost(THREE)
    assert cost == (alone[0], tuple(alone[1:]), learner)
    macs = costs.of_images(THREE, (3,), [[0, 0], [1, 0], [0, 1]], [0, 1, 2])
    before = alone[0] + learner
    np.testing.assert_array_equal(macs, [before, before + alone[1], before + alone[2]])
    np.testing.assert_array_equal(costs.of_choice([0, 1, 2]), alone)
    assert costs.most(THREE) == before + alone[2]
    assert costs.cost(ONE) == base.cost(CHEAP)


def test_parameters_that_candidates_share_are_counted_once():
    made = warm.shapes_of(NET)["params"]
    counts = CostModel(NET, (8, 8, 3)).params(THREE)
    assert counts["params"] == sum(leaf.size for leaf in jax.tree.leaves(made))
    assert counts["params_gates"] == sum(leaf.size for leaf in jax.tree.leaves(made["learner"]))


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_only_the_learner_is_trained_and_only_its_statistics_move(bn):
    ((_, aux), gradients), _ = step(bn)
    for path, gradient in flatten_dict(gradients, sep="/").items():
        assert bool(gradient.any()) == path.startswith("learner/"), path
    stats = NET.fold(spread()["stats"], aux)
    own = {name: stats.pop(name) for name in ("learner",)}
    chex.assert_trees_all_equal(stats, {name: spread()["stats"][name] for name in stats})
    assert (own["learner"]["bn1"]["count"] == 2) == (bn == "batch")


def test_the_loss_is_the_cross_entropy_with_the_best_candidate():
    ((loss, aux), _), batch = step("running")
    # With running statistics the learner says what it does at test.
    choice = predicted()[THREE].choice
    best = np.asarray(batch["targets"][-1].argmax(-1))
    total, count = aux.sums["agreement"]
    assert count == SIZE - 1
    assert total == (choice == best)[1:].sum()
    ce, count = aux.sums["ce"]
    np.testing.assert_allclose(loss, ce / count, rtol=1e-6)
    assert NET.targets == (5, 3) and NET.classes == (5,)


def test_recalibration_of_a_choice_is_that_of_the_learner_alone():
    images = warm.random_images(16, seed=3)
    found = recalibrate(NET, spread(), THREE, images, batch_size=8)
    changed = flatten_dict(jax.tree.map(lambda a, b: bool((a != b).any()), found, spread()))
    assert {path[:2] for path, differs in changed.items() if differs} == {("stats", "learner")}
    assert found["stats"]["learner"]["bn3"]["count"] == 2


def test_a_choice_is_refused_while_a_candidate_was_never_estimated():
    fresh = warm.random_weights(NET)
    own = {**fresh, "stats": {**fresh["stats"], "learner": spread()["stats"]["learner"]}}
    with pytest.raises(UsageError, match="never estimated"):
        check_statistics(NET, own, THREE)


def test_no_bank_of_the_base_stands_for_another():
    with pytest.raises(UsageError, match="no BN banks that can stand for each other"):
        borrow_banks(NET, spread(), FULL, (CHEAP,))


def test_a_run_of_the_base_has_all_but_the_learner():
    match = match_leaves(warm.shapes_of(NET), warm.shapes_of(BASE), "runs/base")
    assert match.dropped == ()
    assert set(match.taken) == {
        f"{path}" for path in flatten_dict(dict(warm.shapes_of(BASE)), sep="/")
    }
    assert all("/learner/" in path for path in match.fresh)


def test_a_config_names_it_with_its_base_as_a_group():
    backbone = {"kind": "resnet", "stage_sizes": (2, 3), "width": 4, "classes": 5}
    base = {"backbone": backbone, "scales": (0.5, 1.0), "side": 12}
    values = {"base": base, "pool": POOL, "width": 8}
    assert build(FAMILIES["adapt"], values, "config.network") == NET


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("resolution:1,1", r"the pool has 1 candidate; 2 to 16 operating points"),
        ("resolution:1,1;resolution:1,1", r"the pool has resolution:1,1 twice"),
        ("resolution:1,1;resolution:1,0.7", r"resolution:1,0.7 does not fit"),
        ("resolution:1,1;adapt:1", r"adapt:1 does not fit"),
        ("resolution:1,1;", r"'' is not the name of an axis"),
    ],
)
def test_a_pool_that_is_none_is_refused(pool, message):
    with pytest.raises(UsageError, match=message):
        Adapt(BASE, pool)


def test_more_than_sixteen_candidates_are_refused():
    scales = tuple(i / 20 for i in range(4, 21))
    with pytest.raises(UsageError, match="the pool has 17 candidates"):
        Adapt(dataclasses.replace(BASE, scales=scales))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width 0 is not positive"),
        (
            {"base": dataclasses.replace(BASE, dtype="bfloat16")},
            "base.dtype is bfloat16 and dtype float32",
        ),
    ],
    ids=["width", "dtype"],
)
def test_a_learner_of_no_width_and_two_dtypes_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(NET, **changes)


@pytest.mark.parametrize("point", ["adapt:0", "adapt:4", "adapt:1.5", "resolution:1", "full"])
def test_what_is_neither_a_choice_nor_a_point_of_the_base_is_refused(point):
    message = rf"{point} does not fit this network; it takes adapt:k with k from 1 to 3, or an"
    with pytest.raises(UsageError, match=message):
        NET.check(Subnet.parse(point))


def test_an_engine_without_gates_runs_the_base_at_a_point_of_its_own():
    engine = build_engine(NET, spread(), "static", [MIDDLE])
    found = engine(warm.random_images(SIZE), MIDDLE)
    expected = predicted()[MIDDLE].logits[0]
    np.testing.assert_allclose(
        found.logits[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
