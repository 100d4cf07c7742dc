"""Targets: by which candidate the true class of an image is likeliest, and what that says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from families import SMALL

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.targets import by_cost, check_choice, measure, rows_of, some_images
from jax_elastic.subnet import FULL, Subnet

DATA = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.25,) * 3)
NET = Resizable(ResNet((1, 2), width=4, classes=5), scales=(0.5, 1.0), side=8)
POINTS = tuple(map(Subnet.parse, ("resolution:0.5,1", "resolution:0.5,0.5", "resolution:1,1")))
SIZE = 11


@pytest.fixture(scope="module")
def variables():
    return warm.random_weights(NET)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (SIZE, 8, 8, 3)).astype(np.uint8)
    labels = rng.integers(0, 5, (SIZE, 1)).astype(np.int32)
    return Dataset("noise", images, labels, (5,), tuple("abcde"))


@pytest.fixture(scope="module")
def whole(data, variables):
    """What is found of images 1, 2, ..., four at a time, after each batch."""
    ids = np.arange(1, SIZE, dtype=np.int32)
    begun = Targets.begin(ids, tuple(map(str, POINTS)), "abc", data.fingerprint)
    return list(measure(NET, variables, data, DATA, begun, batch_size=4))


def test_the_numbers_are_those_of_predictions_image_by_image(whole, data, variables):
    found = whole[-1]
    images = normalise(jnp.asarray(data.images[found.ids]), DATA)
    predict = jax.jit(NET.predict, static_argnums=2)
    logits = [p.logits[0] for p in predict(variables, images, POINTS, None)]
    labels = data.labels[found.ids, 0]
    own = np.stack([jax.nn.softmax(one)[np.arange(len(labels)), labels] for one in logits], 1)

    np.testing.assert_allclose(found.probability, own, rtol=1e-4)
    assert found.right.tolist() == np.stack([one.argmax(1) == labels for one in logits], 1).tolist()
    assert len(set(found.targets.tolist())) > 1


def test_all_batches_are_counted_and_the_last_one_is_not_padded_into_the_result(whole):
    assert [found.done for found in whole] == [4, 8, 10]


def test_a_run_that_goes_on_finds_what_one_would_that_was_not_interrupted(whole, data, variables):
    *_, resumed = measure(NET, variables, data, DATA, whole[0], batch_size=4)

    np.testing.assert_array_equal(resumed.probability, whole[-1].probability)
    np.testing.assert_array_equal(resumed.right, whole[-1].right)
    assert list(measure(NET, variables, data, DATA, whole[-1], batch_size=4)) == []


def test_candidates_are_ordered_by_their_macs():
    costs = CostModel(NET, (8, 8, 3))
    found = by_cost(costs, POINTS)

    assert list(map(str, found)) == ["resolution:0.5,0.5", "resolution:0.5,1", "resolution:1,1"]
    assert list(found.values()) == [costs.cost(point).full for point in found]


def test_images_are_drawn_at_random_once_each_and_the_same_for_a_seed():
    found = some_images(100, 30, seed=1)

    assert len(set(found.tolist())) == 30
    assert found.tolist() == sorted(found.tolist()) == some_images(100, 30, 1).tolist()
    assert found.tolist() != some_images(100, 30, 2).tolist()
    assert some_images(4, 30, 1).tolist() == [0, 1, 2, 3]


def test_rows_say_how_often_each_candidate_is_best_and_what_cheaper_ones_are_worth():
    probability = np.array(
        [[0.9, 0.2, 0.8], [0.3, 0.4, 0.4], [0.6, 0.7, 0.1], [0.2, 0.3, 0.4]], np.float32
    )
    begun = Targets.begin(np.arange(4, dtype=np.int32), ("cut:1", "cut:2", "cut:3"), "", "")
    first, second, last = rows_of(begun.extended(probability, probability > 0.5), (1, 2, 3))

    assert [row["best"] for row in (first, second, last)] == [1, 2, 1]
    assert (first["best_share"], first["n"], first["macs"]) == (0.25, 4, 1)
    assert first["probability"] == pytest.approx(0.5)
    assert [row["top1"] for row in (first, second, last)] == [0.5, 0.25, 0.25]
    # Better than the last: image 0 and 2 by the first, image 2 by the second.
    assert [row["better"] for row in (first, second, last)] == [0.5, 0.25, 0]
    assert [row["rescued"] for row in (first, second, last)] == [0.25, 0.25, 0]
    assert {(row["cheaper_better"], row["cheaper_rescues"]) for row in (first, second, last)} == {
        (0.5, 0.25)
    }


def test_a_candidate_that_costs_as_much_as_the_most_expensive_is_not_called_cheaper():
    begun = Targets.begin(np.zeros(1, np.int32), ("cut:1", "cut:2"), "", "")
    found = begun.extended(np.array([[0.9, 0.1]], np.float32), np.array([[True, False]]))

    assert rows_of(found, (2, 2))[0]["cheaper_better"] == 0


@pytest.mark.parametrize(
    "name,points,message",
    [
        ("urnet", [FULL] * 2, "it takes a budget"),
        ("random_drop", [FULL] * 2, "it takes a budget|its gates are random"),
        ("resizable", [Subnet("resolution", (1, 1))], "1 operating point is no choice"),
        ("resizable", [FULL] * 2, "operating point full does not fit"),
        ("resizable", [Subnet("resolution", (1, 1))] * 2, "were never estimated"),
    ],
)
def test_what_nobody_can_choose_between_is_refused(name, points, message):
    with pytest.raises(UsageError, match=message):
        check_choice(SMALL[name], warm.random_weights(SMALL[name]), points)
