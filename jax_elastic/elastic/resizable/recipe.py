"""How the paper trains resizable networks, as values for a config: backbones, and one phase each.

References:
  Resizable Neural Networks (ICLR 2020 submission); what it leaves open: docs/choices.md R5.
"""

from functools import partial
from typing import Any

from ml_collections import ConfigDict

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.elastic.resizable.variants import TARGETED, vary

Values = dict[str, Any]

BACKBONES: dict[str, partial[Any]] = {
    "resnet50": partial(ResNet, stage_sizes=(3, 4, 6, 3), width=64, block="bottleneck"),
    "mobilenet_v1": partial(MobileNetV1),
    "mobilenet_v2": partial(MobileNetV2),
    "shufflenet_v2": partial(ShuffleNetV2),
    "resizablenet": partial(ResizableNet),
}
"""By name, without what depends on the images: `classes` and `stem`."""

_STEPS: Values = {
    "epochs": 100.0,
    "batch_size": 512,
    "learning_rate": 0.2,
    "schedule": "step",
    "milestones": (30.0, 60.0, 80.0, 90.0),
    "weight_decay": 1e-4,
}
_LINE: Values = {
    "epochs": 240.0,
    "batch_size": 1024,
    "learning_rate": 0.5,
    "schedule": "linear",
    "weight_decay": 4e-5,
}
TRAINING: dict[str, Values] = {
    "resnet50": _STEPS,
    "mobilenet_v1": _LINE,
    "mobilenet_v2": _LINE,
    "shufflenet_v2": _LINE,
    "resizablenet": {**_LINE, "weight_decay": 3e-5, "label_smoothing": 0.1},
}
"""The paper's phase on ImageNet for a network that is trained for one operating point."""


def doubled(phase: Values) -> Values:
    """The same phase twice as long, its milestones twice as late."""
    milestones = tuple(2 * epoch for epoch in phase.get("milestones", ()))
    return {**phase, "epochs": 2 * phase["epochs"], "milestones": milestones}


def train_as(kind: str, phase: Values) -> Values:
    """The phase of a variant: twice as long where all operating points are trained."""
    return phase if kind in TARGETED else doubled(phase)


def experiment(
    kind: str, backbone: partial[Any], network: Values, data: Values, phase: Values
) -> ConfigDict:
    """The config of a variant, see `vary`.

    Args:
      kind: one of `VARIANTS`.
      backbone: a class of `jax_elastic.backbones.chains`, and the keys of its group.
      network: the other keys of `Resizable` that all variants share, `side` among them.
      data: its group of keys.
      phase: the one phase, without its name and objective.
    """
    keys = {"kind": backbone.func.__name__.lower(), **backbone.keywords}
    stages = len(backbone().standard(network["side"]))
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = data
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.network, config.subnet, config.phases = vary(
        kind, {"backbone": keys, **network}, stages, {"name": "train", **phase}
    )
    return config
