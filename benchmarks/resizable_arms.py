"""The networks of the resizable experiments in small: `benchmarks/resizable_arms.py:NAME`, configs.

All are trained alike, for equally many steps, on digits_hard upsampled to 16x16: a ResNet whose
maps of 16, 8 and 4 are run at 3 scales each, with as few blocks as have a resize in every stage.
"""

import dataclasses

from ml_collections import ConfigDict

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.datasets import DataConfig
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment, Runtime, to_config
from jax_elastic.training.phases import Phase
from jax_elastic.training.words import choose

DATA = DataConfig("digits_hard", (12, 12, 1), pad=1, mean=(0.204,), std=(0.287,))
RESIZABLE = Resizable(ResNet((1, 2, 2), width=8), scales=(0.5, 0.75, 1.0), side=16)

SHOWN = {
    "fullest": RESIZABLE.subnets.fullest,
    # One keeps the first map large, the other the last.
    "falling": Subnet("resolution", (1.0, 0.75, 0.5)),
    "rising": Subnet("resolution", (0.5, 0.75, 1.0)),
    "cheapest": RESIZABLE.subnets.cheapest,
}
"""Operating points that are compared one by one, and each of which is trained by itself, too."""


def individually(point: Subnet) -> tuple[Resizable, str]:
    """A network of which one operating point is trained, and the objective that does so."""
    return dataclasses.replace(RESIZABLE, alone=point.value), "alone"


NETWORKS: dict[str, tuple[Resizable, str]] = {
    "fair": (RESIZABLE, "fair"),
    "independent": (RESIZABLE, "independent"),
    "shared_bn": (dataclasses.replace(RESIZABLE, shared_bn=True), "fair"),
    "input_only": (dataclasses.replace(RESIZABLE, places="input"), "fair"),
    **{name: individually(point) for name, point in SHOWN.items()},
}
"""Name -> network, and the objective that it is trained for."""


def get_config(variant: str) -> ConfigDict:
    """The training of a network."""
    (name,) = choose(variant, tuple(NETWORKS))
    network, objective = NETWORKS[name]
    phase = Phase(
        name="base",
        epochs=100.0,
        objective=objective,
        learning_rate=0.1,
        batch_size=32,  # 270 images: so that these are 844 steps
        nesterov=True,
        weight_decay=1e-4,
        schedule="cosine",
        validate=False,
    )
    experiment = Experiment(
        network=network, phases=(phase,), data=DATA, runtime=Runtime(log_every=200)
    )
    return ConfigDict(to_config(experiment))
