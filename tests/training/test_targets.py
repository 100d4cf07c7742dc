"""The door to training of a network that learns a choice: the targets have to be its own."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from left_run import leave_run

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import Checkpoints
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import CHECKPOINTS, load_variables, read_config

BASE = Resizable(ResNet((1, 2), width=4, classes=10), scales=(0.5, 1.0), side=8)
NET = Adapt(BASE, "resolution:0.5,0.5;resolution:1,0.5", width=4)


def targets(path, *candidates, of="abc"):
    """A file of targets of four training digits, of some variables."""
    found = Targets.begin(
        np.arange(4, dtype=np.int32), candidates, of, load(DataConfig(), "train").fingerprint
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


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The workdir of a network that was trained."""
    phases = (Phase("only", 1, BASE.objectives[0], 0.1),)
    made = Experiment(network=BASE, phases=phases, data=DataConfig())
    return leave_run(tmp_path_factory.mktemp("base"), made)


def newest(workdir):
    """The hash of a run's variables, as `targets` writes it."""
    _, meta = load_variables(workdir, read_config(workdir))
    return meta["hashes"][meta["item"]]


def go_on(workdir):
    """A checkpoint more, of other variables."""
    variables, meta = load_variables(workdir, read_config(workdir))
    params = jax.tree.map(lambda leaf: 2 * leaf, variables["params"])
    items = {"variables": {**variables, "params": params}}
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        checkpoints.save(80, items, {key: meta[key] for key in ("phase", "class_names")})


def start(workdir, base, of, report=lambda line: None):
    """Trains a network that chooses, on a base, with targets of some variables."""
    path = targets(workdir / "targets.npz", *map(str, NET.candidates), of=of)
    begun = dataclasses.replace(experiment(NET, path), init_from=str(base))
    return train(begun, workdir, None, jax.devices()[:1], report)


def test_targets_that_were_computed_of_another_run_are_refused_before_training(tmp_path, base):
    with pytest.raises(UsageError, match=r"of the variables abc\.\.\..*compute targets of"):
        start(tmp_path, base, "abc")


def test_targets_of_a_run_that_then_went_on_are_refused_before_training(tmp_path, base):
    on = tmp_path / "on"
    shutil.copytree(base, on)
    before = newest(on)
    go_on(on)

    with pytest.raises(UsageError, match=f"{before[:8]}.*start.* with are of {newest(on)[:8]}"):
        start(tmp_path, on, before)


def test_targets_without_the_run_that_they_are_of_are_refused(tmp_path):
    path = targets(tmp_path / "targets.npz", *map(str, NET.candidates))

    with pytest.raises(UsageError, match="those that the run starts with are fresh"):
        train(experiment(NET, path), tmp_path, None, jax.devices()[:1], lambda line: None)


@pytest.mark.slow
def test_a_network_is_trained_on_the_images_that_have_targets_of_its_candidates(tmp_path, base):
    lines = []
    state = start(tmp_path, base, newest(base), lines.append)

    assert int(state.step) == 1  # an epoch of four images
    assert "done: step 1" in lines[-1]
