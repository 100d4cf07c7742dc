"""The evaluator counts every image once and reports what hand computations say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Toy
from warm import BACKBONE, SMALL, shapes_of, warmed

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.family import Prediction
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.random_drop import RandomDrop, keep_logits, uniforms_of
from jax_elastic.elastic.urnet.soft import URNetSoft
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.accuracy import confidence_interval, draws_interval
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.found import cross_entropies
from jax_elastic.evaluation.usage import (
    BLOCK_KEYS,
    USAGE_KEYS,
    usage,
    usage_of_blocks,
)
from jax_elastic.subnet import FULL, Subnet

# Pixels arrive as they are, divided by 255.
AS_IT_IS = DataConfig(image_shape=(8, 8, 1), validation=0, pad=0, mean=(0.0,), std=(1.0,))
PLAIN = Plain(BACKBONE)
MANY_CLASSES = Plain(dataclasses.replace(BACKBONE, classes=20))
SHALLOW, DEEP = Toy().subnets


@dataclasses.dataclass(frozen=True)
class Chooser(Toy):
    """A network that chooses one of its depths for each image."""

    candidates = (SHALLOW, DEEP)


def dataset(answers, labels, gates=None, classes=5):
    """Images that tell the predictor below what to answer and which gates to open."""
    images = np.zeros((len(answers), 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = answers
    if gates is not None:
        images[:, 1, :5, 0] = gates
    names = tuple(map(str, range(classes)))
    return Dataset("hand", images, np.array(labels, np.int32)[:, None], (classes,), names)


def predict(variables, images, subnets, budget, keys=None):
    """Reads class and gates off the images; a class further away is less likely."""
    answers = jnp.round(images[:, 0, 0, 0] * 255)
    logits = -jnp.abs(jnp.arange(20) - answers[:, None] + 0.1)
    gates = None if budget is None else images[:, 1, :5, 0] - 1 / 255
    return tuple(Prediction((logits,), gates) for _ in subnets)


def predict_and_choose(variables, images, subnets, budget, keys=None):
    """The class as above; the depth is its parity."""
    (prediction, *_) = predict(variables, images, subnets, budget, keys)
    choice = prediction.logits[0].argmax(-1) % 2
    return tuple(prediction._replace(choice=choice) for _ in subnets)


def ready(network):
    """Variables of a network whose statistics count as estimated; their values are not read."""
    return jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes_of(network, (8, 8, 1)))


def evaluate(network, data, predict=predict, **options):
    evaluator = Evaluator(network, data, AS_IT_IS, predict=predict, **options)
    return evaluator(ready(network))


# Padding answers class 0 and is labelled 0: were it counted, accuracy would rise.
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8], ids=lambda b: f"batch={b}")
def test_accuracy_is_exact_whatever_the_batch_size_leaves_over(batch_size):
    data = dataset(answers=[1, 2, 3, 4, 1], labels=[1, 2, 3, 3, 2])
    (row,) = evaluate(PLAIN, data, batch_size=batch_size).rows
    assert (row["n"], row["top1"]) == (5, 3 / 5)
    assert row["top1_ci95"] == confidence_interval(3, 5)


def test_every_call_has_the_full_batch_so_that_one_program_serves_all():
    shapes = []

    def recorded(variables, images, subnets, budget, keys=None):
        shapes.append(images.shape)
        return predict(variables, images, subnets, budget, keys)

    evaluate(PLAIN, dataset([0] * 5, [0] * 5), predict=recorded, batch_size=3)
    assert shapes == [(3, 8, 8, 1)] * 2


def test_images_are_normalised_as_the_data_config_says():
    seen = []

    def recorded(variables, images, subnets, budget, keys=None):
        seen.append(images)
        return predict(variables, images, subnets, budget, keys)

    config = dataclasses.replace(AS_IT_IS, mean=(0.5,), std=(0.25,))
    Evaluator(PLAIN, dataset([255], [0]), config, predict=recorded)(ready(PLAIN))
    assert (seen[0][0, 0, 0, 0], seen[0][0, 0, 1, 0]) == (2, -2)


def test_the_confidence_interval_is_wilsons():
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) for 8 of 10, z = 1.959964.
    assert confidence_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@pytest.mark.parametrize("hits,low,high", [(0, 0, 0.277533), (10, 0.722467, 1)])
def test_the_confidence_interval_stays_within_zero_and_one(hits, low, high):
    assert confidence_interval(hits, 10) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("network,shown", [(PLAIN, False), (MANY_CLASSES, True)])
def test_top5_is_reported_from_twenty_classes_on(network, shown):
    # The five likeliest are the answer and two on each side, as far as there are classes.
    data = dataset([10, 10, 10, 10], [10, 8, 12, 13], classes=20)
    (row,) = evaluate(network, data).rows
    assert row["top1"] == 1 / 4
    assert row.get("top5") == (3 / 4 if shown else None)


GATES = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]])


def test_usage_is_what_the_open_gates_of_the_images_say():
    data = dataset([0] * 4, [0] * 4, GATES)
    evaluation = evaluate(SMALL, data, budgets=[0.6], batch_size=3)
    (row,), (opened,) = evaluation.rows, evaluation.opened
    np.testing.assert_array_equal(opened, GATES == 1)
    # 5, 1, 0 and 2 blocks: mean 2, squared deviations 9 + 1 + 4 + 0; the 99th percentile lies
    # 0.97 of the way from 2 to 5.
    expected = {
        "blocks_total": 5,
        "blocks_mean": 2,
        "blocks_std": np.sqrt(14 / 4),
        "blocks_p99": 2 + 0.97 * 3,
        "asked": 0.6,
        "achieved": 0.4,
        "achieved_std": np.sqrt(14 / 4) / 5,
        "achieved_p99": 4.91 / 5,
        "tracking_error": 0.2,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-9)


def test_macs_are_those_of_the_blocks_that_each_image_opened():
    (row,) = evaluate(SMALL, dataset([0] * 4, [0] * 4, GATES), budgets=[0.6]).rows
    cost = CostModel(SMALL, (8, 8, 1)).cost(FULL)
    macs = cost.fixed + cost.gates + GATES @ np.array(cost.blocks)
    assert row["macs_mean"] == pytest.approx(macs.mean(), rel=1e-12)
    assert row["macs_std"] == pytest.approx(macs.std(), rel=1e-12)


def test_a_gate_whose_logit_is_exactly_zero_is_open():
    def at_zero(variables, images, subnets, budget, keys=None):
        (prediction,) = predict(variables, images, subnets, budget, keys)
        return (prediction._replace(gates=jnp.zeros((len(images), 5))),)

    (row,) = evaluate(SMALL, dataset([0], [0]), predict=at_zero, budgets=[0.6]).rows
    assert row["achieved"] == 1


def test_a_network_without_gates_has_no_usage_and_the_macs_of_all_of_it():
    evaluation = evaluate(PLAIN, dataset([0, 1], [0, 1]))
    (row,), (opened,) = evaluation.rows, evaluation.opened
    assert opened is None
    assert row.items() >= usage(None, None).items()
    assert set(usage(None, None).values()) == {None} == {row["asked"]}
    assert (row["macs_mean"], row["macs_std"]) == (CostModel(PLAIN, (8, 8, 1)).cost(FULL).full, 0)


def test_each_block_has_the_share_of_the_images_that_open_it_and_unused_ones_are_listed():
    rows = evaluate(SMALL, dataset([0] * 4, [0] * 4, GATES[1:].repeat(2, 0)[:4]), batch_size=3).rows
    expected = {"block1": 0.5, **dict.fromkeys(("block2", "block3", "block4", "block5"), 0)}
    assert rows[0]["blocks_open"] == expected
    assert rows[0]["blocks_never"] == ["block2", "block3", "block4", "block5"]
    assert rows[0]["blocks_stages"] == [["block1", "block2"], ["block3", "block4"], ["block5"]]


def test_each_budget_reaches_the_network_as_asked_and_gives_a_row():
    asked = []

    def recorded(variables, images, subnets, budget, keys=None):
        asked.append(budget)
        return predict(variables, images, subnets, budget, keys)

    rows = evaluate(SMALL, dataset([0], [0], GATES[1:2]), recorded, budgets=[0.3, 0.9]).rows
    assert asked == [np.float32(0.3), np.float32(0.9)]
    assert [row["asked"] for row in rows] == [0.3, 0.9]
    assert [row["tracking_error"] for row in rows] == pytest.approx([0.1, 0.7])


def test_budgets_not_asked_for_are_the_networks_own():
    rows = evaluate(SMALL, dataset([0], [0], GATES[:1])).rows
    assert tuple(row["asked"] for row in rows) == SMALL.budgets


def test_operating_points_share_a_pass_and_give_a_row_each():
    rows = evaluate(Toy(), dataset([1, 2], [1, 1]), subnets=[DEEP, SHALLOW]).rows
    assert [row["subnet"] for row in rows] == ["depth:2", "depth:1"]
    costs = CostModel(Toy(), (8, 8, 1))
    assert [row["macs_mean"] for row in rows] == [costs.cost(s).full for s in (DEEP, SHALLOW)]


def test_the_class_that_each_image_is_taken_for_is_found():
    values, labels = [1, 2, 3], [0, 1, 0]
    found = evaluate(Toy(), dataset(values, labels), subnets=[SHALLOW])
    (answer,) = found.answer[0]
    assert answer.shape == (3,)
    np.testing.assert_array_equal(answer == labels, found.top1[0] > 0.5)


def test_where_no_operating_point_is_asked_for_every_one_is_evaluated():
    rows = evaluate(Toy(), dataset([1], [1])).rows
    assert [row["subnet"] for row in rows] == ["depth:1", "depth:2"]


def test_an_image_that_chose_a_candidate_costs_what_the_candidate_costs():
    data = dataset([1, 2, 3, 5], [0, 0, 0, 0])
    (row,) = evaluate(Chooser(), data, predict_and_choose, subnets=[SHALLOW]).rows
    costs = CostModel(Chooser(), (8, 8, 1))
    low, high = costs.cost(SHALLOW).full, costs.cost(DEEP).full
    assert low < high
    assert row["macs_mean"] == (high + low + high + high) / 4
    assert (row["choices"], row["macs_chosen_mean"]) == ([0.25, 0.75], row["macs_mean"])


def test_where_gates_run_what_was_chosen_they_tell_the_cost_and_are_no_share_of_blocks():
    def gated(*args):
        (found, *_) = predict_and_choose(*args)
        return (found._replace(gates=found.choice[:, None] - 0.5),)

    data = dataset([1, 2, 3, 5], [0, 0, 0, 0])
    found = evaluate(Chooser(), data, gated, subnets=[DEEP])
    costs = CostModel(Chooser(), (8, 8, 1))
    deep, (low, high) = costs.cost(DEEP), (costs.cost(p).full for p in (SHALLOW, DEEP))
    (row,) = found.rows
    assert row["macs_mean"] == deep.fixed + deep.gates + 0.75 * deep.blocks[0]
    assert (row["choices"], row["macs_chosen_mean"]) == ([0.25, 0.75], (low + 3 * high) / 4)
    assert all(row[key] is None for key in (*USAGE_KEYS, *BLOCK_KEYS))
    assert found.opened == [None]
    np.testing.assert_array_equal(found.choice, [[[1, 0, 1, 1]]])


@pytest.mark.parametrize(
    "network,options,message",
    [
        (SMALL, {"budgets": [0.5, 1.3]}, "budget 1.3 is outside"),
        (PLAIN, {"budgets": [0.5]}, "takes no budget"),
        (PLAIN, {"subnets": [FULL, Subnet("width", (3,))]}, "width:3 does not fit"),
    ],
    ids=["outside", "superfluous", "subnet"],
)
def test_points_and_budgets_are_refused_before_any_work(network, options, message):
    with pytest.raises(UsageError, match=message):
        Evaluator(network, dataset([0], [0]), AS_IT_IS, **options)


def test_statistics_that_were_never_estimated_are_refused():
    fresh = ready(PLAIN)
    fresh["stats"]["stem"]["bn"]["count"][...] = 0
    with pytest.raises(UsageError, match=r"never estimated .* recalibrate"):
        Evaluator(PLAIN, dataset([0], [0]), AS_IT_IS, predict=predict)(fresh)


def test_logits_that_are_not_finite_are_refused_and_not_counted_as_class_0():
    def broken(variables, images, subnets, budget, keys=None):
        return tuple(Prediction((jnp.full((len(images), 5), jnp.nan),)) for _ in subnets)

    with pytest.raises(UsageError, match="logits are not finite"):
        evaluate(PLAIN, dataset([0], [0]), predict=broken)


def test_budgets_may_be_an_array():
    data = dataset([0, 1], [0, 1], gates=[[1] * 5, [0] * 5])
    rows = evaluate(SMALL, data, budgets=np.array([0.25, 0.5])).rows
    assert [row["asked"] for row in rows] == [0.25, 0.5]


# Networks whose gates are random, or weigh

RANDOM = RandomDrop(BACKBONE)
LABELS = [0, 1, 2, 3, 4] * 4


def predict_at_random(variables, images, subnets, budget, keys):
    """Each block is kept with probability S; the answer is right where the first one is."""
    kept = keep_logits(uniforms_of(keys, 5), budget)
    answers = jnp.round(images[:, 0, 0, 0] * 255)
    wrong = (kept[:, 0] < 0).astype(answers.dtype)
    logits = -jnp.abs(jnp.arange(5) - (answers + wrong)[:, None] % 5)
    return tuple(Prediction((logits,), kept) for _ in subnets)


def evaluate_at_random(predict=predict_at_random, **options):
    options = {"budgets": [0.5], "batch_size": 8, **options}
    return evaluate(RANDOM, dataset(LABELS, LABELS), predict, **options)


def test_a_random_networks_row_says_how_often_it_was_drawn_and_how_sure_that_leaves_it():
    evaluation = evaluate_at_random(draws=6)
    (row,), (top1,), (opened,) = evaluation.rows, evaluation.top1, evaluation.opened
    low, high = row["top1_draws_ci95"]
    assert row["draws"] == 6
    assert row["n"] == 20
    assert low < row["top1"] < high
    # An image is right in the draws that keep its first block.
    np.testing.assert_allclose(top1, opened[:, 0], rtol=1e-12)
    assert row["top1"] == pytest.approx(top1.mean(), rel=1e-12)
    assert set(np.round(opened * 6, 9).ravel()) <= set(range(7))
    assert row["achieved"] == pytest.approx(opened.mean(), rel=1e-12)


def test_the_spread_of_usage_is_over_images_and_draws():
    # Each image keeps 5 x S blocks in every draw on average, but seldom in one.
    evaluation = evaluate_at_random(draws=50)
    (row,), (opened,) = evaluation.rows, evaluation.opened
    binomial = np.sqrt(5 * 0.5 * 0.5)
    # Five standard errors of a standard deviation over 1000 numbers, 1 / sqrt(2000) of it each.
    assert row["blocks_std"] == pytest.approx(binomial, rel=0.12)
    assert opened.sum(1).std() < binomial / 3


def test_the_interval_over_draws_is_students():
    # Mean 0.8, standard deviation 0.1, t(2) = 4.302653: 4.302653 x 0.1 / sqrt(3) = 0.248414.
    assert draws_interval(np.array([0.7, 0.8, 0.9])) == (pytest.approx(0.551586, abs=1e-6), 1.0)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20, 32], ids=lambda b: f"batch={b}")
def test_what_is_drawn_does_not_depend_on_the_batch_size(batch_size):
    ours, theirs = (evaluate_at_random(draws=3, batch_size=size) for size in (batch_size, 20))
    assert ours.rows == theirs.rows
    np.testing.assert_array_equal(ours.opened[0], theirs.opened[0])


def test_every_image_of_every_draw_has_a_key_of_its_own():
    seen = []

    def recorded(variables, images, subnets, budget, keys):
        seen.append(jax.random.key_data(keys))
        return predict_at_random(variables, images, subnets, budget, keys)

    evaluate_at_random(recorded, draws=4, batch_size=10)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 4 * 20


def test_more_draws_narrow_the_interval():
    def width(draws):
        (row,) = evaluate_at_random(draws=draws).rows
        low, high = row["top1_draws_ci95"]
        return high - low

    # As 2.776 / sqrt(5) to 1.984 / sqrt(100), a sixth, but for chance.
    assert width(100) < width(5) / 3


def test_at_a_budget_of_one_a_random_network_is_the_plain_one_in_every_draw():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    data = dataclasses.replace(dataset(LABELS, LABELS), images=images)
    config = DataConfig(
        image_shape=(8, 8, 3), validation=0, pad=0, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    variables = warmed(PLAIN)
    options = {"batch_size": 20}
    plain = Evaluator(PLAIN, data, config, **options)(variables)
    kept = Evaluator(RANDOM, data, config, budgets=[1.0], draws=2, **options)(variables)
    (row,), (base,) = kept.rows, plain.rows
    np.testing.assert_array_equal(kept.top1[0], plain.top1[0])
    assert kept.opened[0].all()
    assert row["top1_draws_ci95"] == (row["top1"], row["top1"]) == (base["top1"], base["top1"])
    assert row["macs_mean"] == base["macs_mean"]


@pytest.mark.parametrize("draws", [0, 1])
def test_draws_that_give_no_interval_are_refused(draws):
    with pytest.raises(UsageError, match=rf"{draws} random draws give no interval; 2 or more"):
        evaluate_at_random(draws=draws)


def test_a_network_that_draws_nothing_is_evaluated_once_and_says_nothing_of_draws():
    calls = []

    def recorded(variables, images, subnets, budget, keys):
        calls.append(keys)
        return predict(variables, images, subnets, budget, keys)

    (row,) = evaluate(PLAIN, dataset([1, 2], [1, 1]), recorded, draws=5).rows
    assert calls == [None]
    assert not row.keys() & {"draws", "top1_draws_ci95", "gate_mean", "gate_std"}


def test_weights_of_blocks_are_reported_by_their_mean_and_spread():
    def weighted(variables, images, subnets, budget, keys):
        (prediction,) = predict(variables, images, subnets, budget, keys)
        weights = images[:, 1, :5, 0] * 255 / 4
        return (prediction._replace(gates=None, weights=weights),)

    soft = URNetSoft(BACKBONE)
    evaluation = evaluate(soft, dataset([0] * 4, [0] * 4, 4 * GATES), weighted, budgets=[0.6])
    (row,) = evaluation.rows
    # 8 of 20 are 1, the others 0; padding counts for nothing. Float32 rounding of the pixels.
    assert row["gate_mean"] == pytest.approx(0.4, rel=1e-6)
    assert row["gate_std"] == pytest.approx(np.sqrt(0.4 * 0.6), rel=1e-6)
    assert evaluation.opened == [None]
    assert row["macs_mean"] == CostModel(SMALL, (8, 8, 1)).cost(FULL).full


def test_hits_and_macs_are_given_image_by_image():
    evaluation = evaluate(SMALL, dataset([1, 2, 3, 4], [1, 2, 0, 0], GATES), budgets=[0.6])
    cost = CostModel(SMALL, (8, 8, 1)).cost(FULL)
    np.testing.assert_array_equal(evaluation.top1, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(
        evaluation.macs, [cost.fixed + cost.gates + GATES @ np.array(cost.blocks)]
    )


def test_macs_are_told_as_a_share_of_the_plain_networks_with_and_without_what_decides():
    data = dataset([0] * 4, [0] * 4, GATES)
    first_four = GATES[:, :4]  # of five blocks the last is not in the plan

    def planned(variables, images, subnets, budget, keys=None):
        (prediction,) = predict(variables, images, subnets, 0.5)
        return (prediction._replace(gates=prediction.gates[:, :4]),)

    network = SGAD(BACKBONE)
    (row,) = evaluate(network, data, planned).rows

    cost = CostModel(network, (8, 8, 1)).cost(FULL)
    plain = CostModel(PLAIN, (8, 8, 1)).cost(FULL).full
    ran = cost.fixed + (first_four @ np.array(cost.blocks)).mean()
    assert row["macs_share_without_gates"] == pytest.approx(ran / plain, rel=1e-12)
    assert row["macs_share"] == pytest.approx((ran + cost.gates) / plain, rel=1e-12)
    assert cost.gates > 0


def test_the_loss_of_each_image_is_its_cross_entropy():
    (loss,) = evaluate(PLAIN, dataset([1, 2, 3], [1, 2, 0]), batch_size=2).loss
    logits = -np.abs(np.arange(20) - np.array([[1], [2], [3]]) + 0.1)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # Logits are float32.
    np.testing.assert_allclose(loss, -np.log(chances[[0, 1, 2], [1, 2, 0]]), rtol=1e-6)


def test_losses_tell_images_apart_of_which_a_network_is_very_sure_or_very_wrong():
    logits = np.array([[0.0, 50.0, 0.0], [0.0, 60.0, 0.0], [0.0, 900.0, 0.0]])
    losses = cross_entropies(logits, np.array([1, 1, 0], np.int32))
    np.testing.assert_allclose(losses, [2 * np.exp(-50), 2 * np.exp(-60), 900], rtol=1e-12)


# Networks of several label levels

TWO_LEVELS = Toy(coarse=20)


def of_two_levels(answers, labels, coarse=20):
    """Images that tell `predict_levels` both answers; `answers` and `labels` are (N, 2)."""
    images = np.zeros((len(answers), 8, 8, 1), np.uint8)
    images[:, 0, :2, 0] = answers
    names = (tuple(map(str, range(10))), tuple(map(str, range(coarse))))
    own = {"level_names": ("kind", "order"), "coarse_names": names[1:], "taxonomy": "by hand"}
    return Dataset("hand", images, np.array(labels, np.int32), (10, coarse), names[0], **own)


def predict_levels(variables, images, subnets, budget, keys=None):
    """Reads both classes off the images; classes further away are less likely."""
    pixels = jnp.round(images[:, 0, :2, 0] * 255)
    logits = [-jnp.abs(jnp.arange(n) - pixels[:, [d]] + 0.1) for d, n in enumerate((10, 20))]
    return tuple(Prediction(tuple(logits)) for _ in subnets)


BOTH = of_two_levels([(1, 5), (2, 5), (3, 7)], [(1, 5), (1, 5), (4, 9)])


@pytest.mark.parametrize("batch_size", [2, 3], ids=lambda b: f"batch={b}")
def test_every_operating_point_has_a_row_for_each_label_level(batch_size):
    found = evaluate(TWO_LEVELS, BOTH, predict_levels, batch_size=batch_size)
    assert [
        (row["subnet"], row["level"], row["level_name"], row["n"], row["top1"], row["top1_ci95"])
        for row in found.rows
    ] == [
        (subnet, level, name, 3, hits / 3, confidence_interval(hits, 3))
        for subnet in ("depth:1", "depth:2")
        for level, name, hits in ((0, "kind", 1), (1, "order", 2))
    ]
    assert [top1.tolist() for top1 in found.top1] == [[1, 0, 0], [1, 1, 0]] * 2
    costs = [CostModel(TWO_LEVELS, (8, 8, 1)).cost(subnet).full for subnet in (SHALLOW, DEEP)]
    assert [row["macs_mean"] for row in found.rows] == [costs[0]] * 2 + [costs[1]] * 2


def test_top5_is_reported_at_the_levels_that_have_twenty_classes():
    fine, coarse = evaluate(TWO_LEVELS, BOTH, predict_levels, subnets=[DEEP]).rows
    assert "top5" not in fine
    assert coarse["top5"] == 1


def test_the_finest_level_of_an_evaluation_keeps_what_belongs_to_its_rows():
    found = evaluate(TWO_LEVELS, BOTH, predict_levels)
    finest = found.at_finest()
    assert [(row["subnet"], row["level"]) for row in finest.rows] == [
        ("depth:1", 0),
        ("depth:2", 0),
    ]
    assert [top1.tolist() for top1 in finest.top1] == [[1, 0, 0]] * 2
    assert len(finest.macs) == len(finest.opened) == 2


def test_rows_of_a_network_of_one_level_do_not_speak_of_levels():
    evaluation = evaluate(PLAIN, dataset([0], [0]))
    assert list(evaluation.rows[0]) == [
        *("subnet", "n", "top1", "top1_ci95", "macs_mean", "macs_std", "asked"),
        *(*usage(None, None), *usage_of_blocks(None, (), ())),
    ]
    assert evaluation.at_finest() == evaluation


def test_a_split_without_the_networks_label_levels_is_refused_before_any_work():
    with pytest.raises(UsageError, match=r"2 label levels, .* hand has one without a taxonomy"):
        Evaluator(TWO_LEVELS, dataset([0], [0]), AS_IT_IS)
    with pytest.raises(
        UsageError, match=r"has \(10, 20\) classes, hand has \(10, 3\): kind, order"
    ):
        Evaluator(TWO_LEVELS, of_two_levels([(0, 0)], [(0, 0)], 3), AS_IT_IS)


def test_logits_of_a_coarse_level_that_are_not_finite_are_refused():
    def broken(variables, images, subnets, budget, keys=None):
        size = len(images)
        return tuple(
            Prediction((jnp.zeros((size, 10)), jnp.full((size, 20), jnp.inf))) for _ in subnets
        )

    with pytest.raises(UsageError, match="logits are not finite"):
        evaluate(TWO_LEVELS, BOTH, broken)
