"""One operating point alone: what is drawn for it, what reports show; and the mean of several."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.family import Prediction
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import Subnet

OPEN = Resizable(ResNet((1, 1), width=2, classes=5), scales=(0.5, 1.0), side=8)
POINT = Subnet("resolution", (0.5, 1))
TARGETED = dataclasses.replace(OPEN, target=POINT.value)
NOISE = DataConfig(image_shape=(8, 8, 3), validation=0, pad=0, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture(scope="module")
def trained_alone():
    """Variables after one step of the objective `target`, as far as their statistics go."""
    variables, batch = warm.random_weights(TARGETED), warm.random_batch(2)
    (draw,) = warm.some_draws(TARGETED, "target")

    @jax.jit
    def stats(variables):
        _, aux = TARGETED.loss(variables, batch, draw, jax.random.key(0), "target", "batch")
        return TARGETED.fold(variables["stats"], aux)

    return {"params": variables["params"], "stats": stats(variables)}


def evaluator(network, subnets=None):
    images = np.zeros((3, 8, 8, 3), np.uint8)
    dataset = Dataset("noise", images, np.zeros((3, 1), np.int32), (5,), tuple("abcde"))

    def predict(variables, images, subnets, budget, keys):
        return tuple(Prediction((jnp.zeros((len(images), 5)),)) for _ in subnets)

    return Evaluator(network, dataset, NOISE, subnets, predict=predict)


@pytest.mark.parametrize("network,point", [(TARGETED, POINT), (OPEN, OPEN.subnets.fullest)])
def test_the_target_is_drawn_alone_or_else_the_fullest(network, point):
    (draw,) = warm.some_draws(network, "target")

    assert draw.subnet == point


@pytest.mark.parametrize("network,shown", [(TARGETED, (POINT,)), (OPEN, tuple(OPEN.subnets))])
def test_a_report_shows_the_target_or_else_all_points(network, shown):
    assert network.shown == shown


def test_what_was_trained_for_one_point_is_evaluated_without_naming_it(trained_alone):
    rows = evaluator(TARGETED)(trained_alone).rows

    assert [row["subnet"] for row in rows] == [str(POINT)]


def test_an_engine_prepares_the_point_that_it_was_trained_for(trained_alone):
    build_engine(TARGETED, trained_alone, "static")

    with pytest.raises(UsageError, match="resolution:1,1 uses BN statistics"):
        build_engine(TARGETED, trained_alone, "static", [TARGETED.subnets.fullest])


def test_its_other_points_are_there_but_were_never_estimated(trained_alone):
    with pytest.raises(UsageError, match=r"resolution:1,1 .* never .*segment map1/scale1\.0\)"):
        evaluator(TARGETED, [TARGETED.subnets.fullest])(trained_alone)


def test_aiming_and_aiming_at_nothing_undo_each_other():
    assert OPEN.aimed(POINT) == TARGETED
    assert (TARGETED.aim, OPEN.aim) == (POINT, None)
    assert TARGETED.aimed(None) == OPEN


def test_a_point_of_another_axis_is_no_aim():
    with pytest.raises(UsageError, match=r"width:0\.5,1 does not fit this network"):
        OPEN.aimed(Subnet("width", POINT.value))


def test_a_target_that_the_network_does_not_have_is_refused():
    with pytest.raises(UsageError, match=r"resolution:1,0\.7 does not fit"):
        dataclasses.replace(OPEN, target=(1.0, 0.7))


@pytest.mark.parametrize("objective,passes", [("fair", 2), ("independent", 2), ("target", 1)])
def test_the_averaged_loss_of_a_step_is_the_mean_over_its_points(objective, passes):
    averaged = dataclasses.replace(OPEN, averaged=True)
    batch = warm.random_batch(4)
    carry = {"logits": (jnp.asarray(np.random.default_rng(0).normal(size=(4, 5))),)}

    (own, own_sums), (whole, sums) = (
        network.score(carry, batch, objective) for network in (averaged, OPEN)
    )

    assert len(warm.some_draws(averaged, objective)) == passes
    np.testing.assert_allclose(own, whole / passes, rtol=1e-6)  # float32
    assert jax.tree.map(float, own_sums) == jax.tree.map(float, sums)
