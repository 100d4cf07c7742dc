"""What a network that chooses is trained as: only the learner, for a short while."""

import re

import jax
import jax.numpy as jnp

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.adapt_recipe import choosing
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.training.trainable import partition

NETWORK = {"family": "resizable", "backbone": {"kind": "resnet"}, "scales": (0.5, 1.0), "side": 32}
PHASE = {"batch_size": 64, "epochs": 100.0, "nesterov": True, "milestones": (30.0,)}


def test_the_network_that_was_trained_is_the_base_of_the_one_that_chooses():
    network, _ = choosing(NETWORK, PHASE)

    assert network.pop("base") == {key: NETWORK[key] for key in ("backbone", "scales", "side")}
    assert network == {"family": "adapt", "pool": "", "width": 256}


def test_only_the_learner_is_trained_and_not_as_the_network_was():
    _, phase = choosing(NETWORK, PHASE)
    paths = ("learner/conv1/kernel", "stem/conv/kernel", "head/learner/kernel")

    assert [bool(re.search(phase["trainable"], path)) for path in paths] == [True, False, False]
    assert phase["batch_size"] == 64 and phase["epochs"] < 100
    assert phase["finetune"] and not {"nesterov", "milestones"} & set(phase)


def test_no_parameter_of_the_network_that_was_trained_is_there_for_weight_decay():
    network = Adapt(Resizable(ResNet((1, 1), 4), scales=(0.5, 1.0), side=8), width=4)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), images)["params"]
    _, phase = choosing(NETWORK, PHASE)
    trained, frozen = partition(params, phase["trainable"])

    assert set(trained) == {"learner"} and "learner" not in frozen
    assert jax.tree.structure(trained["learner"]) == jax.tree.structure(params["learner"])
