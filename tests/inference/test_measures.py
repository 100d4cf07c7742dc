"""What a search measures of operating points: the evaluator's numbers, and times where asked."""

import itertools

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warm import random_weights

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.cases import points_of
from jax_elastic.inference.measures import Measures, Recalibration, Timing
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import Subnet

DATA = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
# Gates and budgets, widths, and combinations of choices.
NAMES = ("urnet", "iresnext", "resizable")
EVERY = [
    pytest.param(name, marks=() if name in NAMES else pytest.mark.slow) for name in families.SMALL
]
RESIZABLE = families.SMALL["resizable"]
LOW = (Subnet("resolution", (0.5, 0.5)), None)


def split(size):
    """Images of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(size, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(5, size=(size, 1), dtype=np.int32)
    return Dataset("noise", images, labels, (5,), tuple("abcde"))


SPLIT = split(16)


def weights(network):
    """Random ones whose statistics count as estimated."""
    variables = random_weights(network)

    def counted(path, leaf):
        return jnp.ones_like(leaf) if path[-1].key == "count" else leaf

    stats = jax.tree_util.tree_map_with_path(counted, variables["stats"])
    return {**variables, "stats": stats}


def everywhere(network):
    """All points of a network, with two budgets where it takes some."""
    budgets = (0.3, 0.9) if network.budgets else ()
    return points_of(network, tuple(network.subnets), budgets)


@pytest.mark.parametrize("name", EVERY)
def test_rows_are_the_evaluators_with_what_a_point_costs(name):
    network = families.SMALL[name]
    points, variables = everywhere(network), weights(network)

    found = Measures(network, variables, SPLIT, DATA)(points, {})

    assert list(found) == list(points)
    budgets = [budget for _, budget in points if budget is not None]
    direct = Evaluator(network, SPLIT, DATA, list(network.subnets), budgets or None, 16)(variables)
    costs = CostModel(network, (8, 8, 3))
    for row in direct.rows:
        own = found[Subnet.parse(row["subnet"]), row["asked"]]
        assert own == {
            **{key: row[key] for key in ("subnet", "asked", "achieved", "top1", "top1_ci95", "n")},
            "macs": row["macs_mean"],
            "flops": 2 * row["macs_mean"],
            "params": costs.params(Subnet.parse(row["subnet"]))["params"],
            "ms": None,
        }


@pytest.mark.parametrize("name", NAMES)
def test_costs_that_depend_on_no_image_are_told_before_a_point_is_run(name):
    network = families.SMALL[name]
    measures, cheapest = Measures(network, weights(network), SPLIT, DATA), network.subnets.cheapest

    before = measures.before(cheapest)

    costs = CostModel(network, (8, 8, 3))
    macs = costs.cost(cheapest).full
    static = {} if name == "urnet" else {"macs": macs, "flops": 2 * macs}
    assert before == {"params": costs.params(cheapest)["params"], **static}


def test_what_is_known_is_not_measured_again():
    measures = Measures(RESIZABLE, weights(RESIZABLE), SPLIT, DATA)
    known = {LOW: {"top1": -1.0, "ms": None}}

    assert not measures.missing(known[LOW]) and measures.missing(None)
    assert measures([LOW], known) == known


def test_a_time_is_the_median_of_calls_and_joins_what_is_known():
    ticks = itertools.count()
    timing = Timing(batch_size=2, rounds=2, clock=lambda: float(next(ticks)))
    measures = Measures(RESIZABLE, weights(RESIZABLE), SPLIT, DATA, timing=timing)
    known = {LOW: {"top1": -1.0, "ms": None}}

    assert measures.missing(known[LOW])
    found = measures([LOW], known)

    # Between two readings of the clock is a second.
    assert found == {LOW: {"top1": -1.0, "ms": 1000.0}}
    assert not measures.missing(found[LOW]) and known[LOW]["ms"] is None


def test_statistics_that_were_never_estimated_are_refused_with_the_flag_that_estimates_them():
    measures = Measures(RESIZABLE, random_weights(RESIZABLE), SPLIT, DATA)
    with pytest.raises(UsageError, match=r"resolution:0\.5,0\.5 uses BN statistics .* never esti"):
        measures([LOW], {})
    with pytest.raises(UsageError, match="--recalibrate=10000; or search among those"):
        measures([LOW], {})


def test_with_recalibration_each_point_has_statistics_of_its_own():
    images = split(32).images
    fresh = random_weights(RESIZABLE)
    measures = Measures(RESIZABLE, fresh, SPLIT, DATA, Recalibration(images, 16))

    found = measures([LOW], {})

    estimated = recalibrate(RESIZABLE, fresh, LOW[0], images, batch_size=16, data=DATA)
    (expected,) = Evaluator(RESIZABLE, SPLIT, DATA, [LOW[0]], None, 16)(estimated).rows
    assert found[LOW]["top1"] == expected["top1"]


def test_a_point_that_the_network_lacks_is_refused():
    measures = Measures(RESIZABLE, weights(RESIZABLE), SPLIT, DATA)
    with pytest.raises(UsageError, match="width:3 does not fit this network"):
        measures([(Subnet("width", (3,)), None)], {})
