"""The door to training of a network that learns a choice: the targets have to be its own."""

import jax
import numpy as np
import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase

BASE = Resizable(ResNet((1, 2), width=4, classes=10), scales=(0.5, 1.0), side=8)
NET = Adapt(BASE, "resolution:0.5,0.5;resolution:1,0.5", width=4)


def targets(path, *candidates):
    """A file of targets of four training digits."""
    found = Targets.begin(
        np.arange(4, dtype=np.int32), candidates, "abc", load(DataConfig(), "train").fingerprint
    )
    numbers = np.ones((4, len(candidates)), np.float32)
    return str(found.extended(numbers, numbers > 0).write(path))


def experiment(network, path=""):
    phase = Phase("only", 1, network.objectives[-1], 0.1, batch_size=4)
    return Experiment(network=network, phases=(phase,), data=DataConfig(targets=path))


@pytest.mark.parametrize(
    "network,candidates,message",
    [
        (NET, (), "2 operating points suits an image, and digits comes without"),
        (NET, ("resolution:1,0.5", "resolution:0.5,0.5"), "targets are of the candidates"),
        (BASE, ("resolution:0.5,0.5", "resolution:1,0.5"), "the network learns no choice"),
    ],
    ids=["none", "of others", "for nobody"],
)
def test_a_network_and_targets_that_do_not_fit_are_refused_before_training(
    tmp_path, network, candidates, message
):
    path = targets(tmp_path / "targets.npz", *candidates) if candidates else ""

    with pytest.raises(UsageError, match=message):
        train(experiment(network, path), tmp_path, devices=jax.devices()[:1])


@pytest.mark.slow
def test_a_network_is_trained_on_the_images_that_have_targets_of_its_candidates(tmp_path):
    path = targets(tmp_path / "targets.npz", *map(str, NET.candidates))
    lines = []
    state = train(experiment(NET, path), tmp_path, None, jax.devices()[:1], lines.append)

    assert int(state.step) == 1  # an epoch of four images
    assert "done: step 1" in lines[-1]
