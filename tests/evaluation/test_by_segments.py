"""Predictions by segments are those of the network, from no more programs than there are parts."""

import families
import jax
import numpy as np
import pytest
from warm import random_images, random_weights

from jax_elastic.evaluation.by_segments import BySegments, combines, predictor

NETWORK = families.SMALL["resizable"]  # two scales in each of two stages


def test_predictions_are_the_networks_at_every_point_in_any_order():
    variables, images = random_weights(NETWORK), random_images(2)
    points = (*NETWORK.subnets, NETWORK.subnets.cheapest)
    predict = BySegments(NETWORK)
    by_segments = predict(variables, images, points)
    whole = jax.jit(NETWORK.predict, static_argnums=2)(variables, images, points, None)
    for found, expected in zip(by_segments, whole, strict=True):
        (logits,), (wanted,) = found.logits, expected.logits
        # float32 sums in another order.
        np.testing.assert_allclose(logits, wanted, atol=1e-5 * np.abs(wanted).max())
    # The image's resize, the stem; in each stage a stretch for each scale, and a resize from the
    # only size that the stem hands on or from both of the stage before.
    assert predict.run._cache_size() == 2 + (2 + 2) + (4 + 2)


def test_what_points_begin_with_is_computed_once(monkeypatch):
    predict, ran = BySegments(NETWORK), []

    def recorded(variables, carry, segment):
        ran.append(segment.name)
        return {"logits": ()} if segment.name.startswith("map2") else {}

    monkeypatch.setattr(predict, "run", recorded)
    predict({}, np.zeros((2, 8, 8, 3)), tuple(NETWORK.subnets))
    starts = [name.split("/")[0] for name in ran]
    names = ("resize0", "map0", "resize1", "map1", "resize2", "map2")
    assert [starts.count(name) for name in names] == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize("name", families.SMALL)
def test_only_combinations_of_choices_without_gates_are_run_by_segments(name):
    assert combines(families.SMALL[name]) == (name == "resizable")


@pytest.mark.parametrize("name", ["resizable", "plain"])
def test_a_network_is_run_by_segments_where_its_points_combine(name):
    network = families.SMALL[name]

    assert isinstance(predictor(network), BySegments) == combines(network)
