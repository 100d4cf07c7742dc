"""Answers image by image, of networks of every kind; `tests/cli` has those of a trained one."""

import collections

import families
import numpy as np
import pytest
from toy import Toy
from warm import random_images, warmed

from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.images import ImageFile
from jax_elastic.elastic.family import Prediction
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.predict import Predictor

DATA = DataConfig(image_shape=(8, 8, 3), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def files():
    pixels = (random_images(6, 3) * 40 + 128).clip(0, 255).astype(np.uint8)
    return [ImageFile(f"{i}.png", image, (8, 8), ()) for i, image in enumerate(pixels)]


def predictor(network, budget=None, engine=None):
    point = network.subnets.fullest
    engine = engine or build_engine(network, warmed(network, 2), "masked")
    return Predictor(engine, network, DATA, point, budget, None)


def test_random_gates_are_those_of_an_images_place_whatever_its_batch(files):
    predict = predictor(families.ALL["random_drop"], 0.5)

    together = predict(files, range(6))
    apart = [*predict(files[:3], [0, 1, 2]), *predict(files[3:], [3, 4, 5])]

    opened = [row["opened"] for row in together]
    assert opened == [row["opened"] for row in apart]
    assert len(set(opened)) > 2


def test_a_network_without_gates_costs_the_same_for_every_image(files):
    network = families.ALL["plain"]
    rows = predictor(network)(files, range(6))
    full = CostModel(network, DATA.image_shape).cost(network.subnets.fullest).full
    assert {(row["macs"], row["macs_share"], row["blocks"]) for row in rows} == {(full, 1, None)}


def test_what_a_network_chose_is_what_an_image_costs(files):
    class Choosing:
        """A network that chooses among two depths."""

        candidates = tuple(families.ALL["toy"].subnets)

        def __getattr__(self, name):
            return getattr(families.ALL["toy"], name)

    def engine(images, *args, **kwargs):
        logits = np.zeros((len(images), 10), np.float32)
        return Prediction((logits,), None, np.arange(len(images), dtype=np.int32) % 2)

    rows = predictor(Choosing(), engine=engine)(files, range(6))

    costs = CostModel(families.ALL["toy"], DATA.image_shape)
    points = [costs.cost(point) for point in families.ALL["toy"].subnets]
    expected = [point.full + points[-1].gates for point in points]
    counts = collections.Counter(row["macs"] for row in rows)
    assert counts == {expected[0]: 3, expected[1]: 3}
    assert [(row["choice"], row["blocks"]) for row in rows] == [
        ("depth:1", None),
        ("depth:2", None),
    ] * 3


def test_answers_that_are_not_finite_are_refused(files):
    def engine(images, *args, **kwargs):
        return Prediction((np.full((len(images), 5), np.nan),))

    with pytest.raises(UsageError, match="logits are not finite"):
        predictor(families.ALL["plain"], engine=engine)(files, range(6))


def test_of_several_label_levels_the_finest_answers_and_the_engine_gives_all(files):
    network = Toy(coarse=2)
    engine = build_engine(network, warmed(network, 2), "masked")
    fine, coarse = engine(normalise(np.stack([file.pixels for file in files]), DATA)).logits

    rows = predictor(network, engine=engine)(files, range(6))

    assert [row["label"] for row in rows] == fine.argmax(-1).tolist()
    assert coarse.shape == (6, 2)
