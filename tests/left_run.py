"""The workdir of a trained resizable network that nothing was compiled for."""

import jax
import jax.numpy as jnp
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.datasets import DataConfig
from jax_elastic.elastic.reads import statistics_read
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Checkpoints
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import CHECKPOINTS, claim

NET = Resizable(ResNet((1, 1), width=4, classes=10), scales=(0.5, 1.0), side=8)
LOW, FULL = "resolution:0.5,0.5", "resolution:1,1"
EXPERIMENT = Experiment(
    network=NET, phases=(Phase("only", 1, NET.objectives[0], 0.1),), data=DataConfig(), seed=3
)


def leave_run(workdir, *points):
    """A workdir as a run leaves it whose banks were updated at some points."""
    fresh = warm.random_weights(NET, 1)
    kernel = fresh["params"]["stem"]["conv"]["kernel"]
    fresh["params"]["stem"]["conv"]["kernel"] = kernel[:, :, :1]  # digits are grey

    def trained(mask, leaf):
        return jnp.where(mask, leaf + jnp.asarray(1, leaf.dtype), leaf)

    stats = fresh["stats"]
    for point in points:
        stats = jax.tree.map(trained, statistics_read(NET, fresh, Subnet.parse(point)), stats)
    claim(workdir, EXPERIMENT)
    names = [str(i) for i in range(10)]
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        items = {"variables": {"params": fresh["params"], "stats": stats}}
        checkpoints.save(40, items, {"phase": 0, "phase_name": "only", "class_names": names})
    return workdir
