"""Latency tables: what is timed, counted and said. No test looks at how long anything takes."""

import dataclasses
import itertools
import logging

import families
import jax
import numpy as np
import pytest
from toy import WIDTH, Toy
from warm import SMALL, warmed, with_gate_logits

from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference import latency
from jax_elastic.inference.cases import plan
from jax_elastic.inference.latency import measure, times
from jax_elastic.subnet import FULL, Subnet
from jax_elastic.training.trainable import partition

DATA = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
HALF = Subnet("capacity", (0.5,))
KEYS = {
    *("subnet", "asked", "engine", "batch_size", "ms_median", "ms_p99", "ms_per_image"),
    *("time_ratio", "macs_mean", "mac_ratio", "executed_macs_mean", "achieved", "top1"),
    *("top1_ci95", "n", "dense", "rounds", "device", "load"),
}


def validation(size):
    """A split of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(size, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(5, size=(size, 1), dtype=np.int32)
    return Dataset("noise", images, labels, (5,), tuple("abcde"))


SPLIT = validation(7)


def squares():
    """A clock whose n-th reading is n^2 seconds: its k-th interval takes 4k + 1."""
    readings = itertools.count()
    return lambda: float(next(readings) ** 2)


@pytest.fixture(scope="module")
def variables():
    return warmed(SMALL, 9)


@pytest.fixture(scope="module")
def costs():
    return CostModel(SMALL, (8, 8, 3))


@pytest.fixture(scope="module")
def table(variables):
    """Of batches of 3, two rounds."""
    cases = plan(SMALL, [3], budgets=[0.3, 0.9])
    return measure(SMALL, variables, SPLIT, DATA, cases, 2, squares())


def test_a_table_has_a_row_for_each_case_with_all_that_is_said_of_it(table):
    whole = "blocks:1,1,1,1,1"
    points = [(whole, None, "static")]
    points += [("full", s, e) for s in (0.3, 0.9) for e in ("masked", "compacted")]
    named = [(row["batch_size"], row["subnet"], row["asked"], row["engine"]) for row in table]
    assert named == [(3, *point) for point in points]
    assert [row["dense"] for row in table] == [True, False, False, False, False]
    assert {frozenset(row) for row in table} == {frozenset(KEYS)}
    assert {(row["rounds"], row["n"]) for row in table} == {(2, 7)}


def test_times_are_those_of_the_rounds_after_the_first_call(table):
    # Of five cases: calls 0-4 warm up, then a round from the first case and one from the second.
    seconds = 4 * np.array([[5, 14], [6, 10], [7, 11], [8, 12], [9, 13]]) + 1
    expected = [times(own, seconds[0], 3) for own in seconds]
    assert [{key: row[key] for key in expected[0]} for row in table] == expected


def test_the_ratio_is_the_median_of_the_ratios_in_each_round():
    found = times(np.array([1.0, 4.0, 6.0]), np.array([1.0, 2.0, 12.0]), 8)
    # The 99th percentile of three lies just below the slowest.
    expected = {"ms_median": 4000, "ms_p99": 6000, "ms_per_image": 500, "time_ratio": 1}
    assert found == pytest.approx(expected)


def test_accuracy_and_usage_are_the_evaluators_on_the_whole_split(table, variables):
    found = Evaluator(SMALL, SPLIT, DATA, budgets=[0.3, 0.9])(variables).rows
    for of_split in found:
        own = [row for row in table if row["asked"] == of_split["asked"]]
        assert len(own) == 2
        for key in ("top1", "top1_ci95", "achieved", "n"):
            assert {row[key] for row in own} == {of_split[key]}
    assert {row["achieved"] for row in table if row["dense"]} == {1.0}


def test_accuracy_is_that_of_the_finest_label_level():
    network, shallow = Toy(coarse=2), Subnet("depth", (1,))
    digits = {"classes": (10, 2), "taxonomy": "by hand", "level_names": ("class", "half")}
    labels = np.stack([np.arange(7), np.arange(7) > 3], -1).astype(np.int32)
    split = dataclasses.replace(SPLIT, labels=labels, **digits)
    cases = plan(network, [3], [shallow], engines=["masked"])
    variables = jax.tree.map(np.asarray, warmed(Toy()))
    first = {"kernel": np.zeros((WIDTH, 2), np.float32), "bias": np.float32([9, 0])}
    variables["params"]["head"]["coarse"] = first  # its answer, always
    fine, coarse = Evaluator(network, split, DATA, [shallow])(variables).rows

    rows = measure(network, variables, split, DATA, cases, 1, squares())

    assert coarse["top1"] == 4 / 7 != fine["top1"]
    assert {row["top1"] for row in rows if row["subnet"] == "depth:1"} == {fine["top1"]}


def decided(variables, logits=(1, -1, 1, 1, -1)):
    """Gates that are the same for every image."""
    return with_gate_logits(SMALL, variables, logits)


def test_macs_are_those_of_the_blocks_that_opened_and_of_what_really_ran(variables, costs):
    cost = costs.cost(FULL)
    rows = measure(
        SMALL, decided(variables), SPLIT, DATA, plan(SMALL, [3], budgets=[0.5]), 2, squares()
    )
    dense, masked, compacted = rows

    macs = float(cost.of(np.array([1, 0, 1, 1, 0])))
    whole = costs.cost(Subnet("blocks", (1,) * 5)).full
    assert dense["macs_mean"] == dense["executed_macs_mean"] == whole
    assert masked["macs_mean"] == compacted["macs_mean"] == macs
    assert masked["executed_macs_mean"] == cost.full
    assert compacted["executed_macs_mean"] == macs  # a micro-batch holds the three images
    assert [row["mac_ratio"] for row in rows] == [1, macs / whole, macs / whole]


@pytest.mark.slow
def test_where_a_choice_alone_has_statistics_macs_are_told_in_times_of_its_dearest_image():
    pool = "resolution:0.5,0.5;resolution:1,0.5;resolution:1,1"
    network, point = dataclasses.replace(families.SMALL["adapt"], pool=pool), Subnet("adapt", (3,))
    cases = plan(network, [3], [point], engines=["masked"], only=point)

    (row,) = measure(network, warmed(network), SPLIT, DATA, cases, 1, squares())

    most = CostModel(network, (8, 8, 3)).most(point)
    assert row["dense"] and row["macs_mean"] <= most
    assert row["mac_ratio"] == row["macs_mean"] / most


@pytest.mark.slow
def test_a_share_of_the_batch_costs_what_passes_and_is_evaluated_in_its_batches(variables, costs):
    cost = costs.cost(HALF)
    cases = plan(SMALL, [3], [HALF], [0.5])

    _, masked, compacted = measure(SMALL, variables, SPLIT, DATA, cases, 1, squares())

    assert masked["executed_macs_mean"] == cost.full
    # Half of three images, rounded up, are two.
    passed = cost.fixed + cost.gates + sum(cost.blocks) * 2 / 3
    assert compacted["executed_macs_mean"] == pytest.approx(passed)
    (of_split,) = Evaluator(SMALL, SPLIT, DATA, [HALF], [0.5], 3)(variables).rows
    # Of batches of three, three and one; in a batch of seven, four would pass.
    assert masked["achieved"] == of_split["achieved"] == pytest.approx(5 / 7)
    assert masked["top1"] == compacted["top1"] == of_split["top1"]


@pytest.fixture
def called(monkeypatch):
    """What engines are called with, by their names."""
    images = {}

    def spied(network, variables, name, *args, **options):
        engine = build_engine(network, variables, name, *args, **options)

        class Spy:
            way = engine.way

            def __call__(self, batch, *args, **options):
                images.setdefault(name, []).append(np.asarray(batch))
                return engine(batch, *args, **options)

        return Spy()

    build_engine = latency.build_engine
    monkeypatch.setattr(latency, "build_engine", spied)
    return images


def test_every_round_sends_the_next_images_of_the_split_through_each_case(variables, called):
    measure(SMALL, variables, SPLIT, DATA, plan(SMALL, [3], budgets=[0.5]), 3, squares())

    # The first call compiles, and the next one is that of the same images on the clock.
    ids = [[0, 1, 2], [0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4]]
    expected = [normalise(SPLIT.images[batch], DATA) for batch in ids]
    assert set(called) == {"static", "masked", "compacted"}
    for found in called.values():
        # Jitted or not, the normalisation rounds otherwise; other images differ by far more.
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_short_call_is_timed_after_another_of_its_case(variables, called):
    cases = plan(SMALL, [3], [Subnet("blocks", (1,) * 5)])

    measure(SMALL, variables, SPLIT, DATA, cases, 3, itertools.count(0, 0.01).__next__)

    (found,) = called.values()
    assert len(found) == 2 * (1 + 3)
    np.testing.assert_array_equal(found[0::2], found[1::2])


def test_images_that_open_other_blocks_compile_nothing_after_the_first_round(variables, caplog):
    compiled = []

    def clock():
        names = (record.getMessage() for record in caplog.records)
        compiled.append(sum(name.startswith("Compiling") for name in names))
        return float(len(compiled))

    cases = plan(SMALL, [3], budgets=[0.2, 0.9])
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        rows = measure(SMALL, variables, SPLIT, DATA, cases, 3, clock)

    assert len(compiled) == 2 * len(rows) * (1 + 3)
    warm = 2 * len(rows) - 1
    assert compiled[warm] == compiled[-1] > 0
    usages = {row["macs_mean"] for row in rows if row["engine"] == "compacted"}
    assert len(usages) == 2


@pytest.mark.slow
def test_a_network_whose_gates_are_random_is_given_the_keys_of_its_images(variables):
    _, shared = partition(variables["params"], "/gate/")
    network, arrays = RandomDrop(SMALL.backbone), {"params": shared, "stats": variables["stats"]}

    rows = measure(network, arrays, SPLIT, DATA, plan(network, [2], budgets=[0.5]), 1, squares())

    assert [row["engine"] for row in rows] == ["static", "masked", "compacted"]
    assert rows[1]["macs_mean"] == rows[2]["macs_mean"] < rows[0]["macs_mean"]


def test_at_least_one_round_is_timed(variables):
    with pytest.raises(UsageError, match="0 rounds measure nothing"):
        measure(SMALL, variables, SPLIT, DATA, plan(SMALL, [1]), 0)
