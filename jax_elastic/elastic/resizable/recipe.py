"""How the paper trains resizable networks, as values for a config: backbones, and how long each.

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
from jax_elastic.elastic.resizable.variants import SHARED, VARIANTS, vary
from jax_elastic.errors import UsageError

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
    "resizablenet": {**_LINE, "epochs": 480.0, "weight_decay": 3e-5, "label_smoothing": 0.1},
}
"""The paper's phase on ImageNet for a network that is trained for one operating point."""
BY_ITSELF = {"resizablenet": "aug"}
"""The variant as which the paper trains a backbone, where that is not `rs`."""


def kinds(words: str) -> tuple[str, ...]:
    """`VARIANTS`, that first as which the paper trains the backbone that is among some words."""
    first = next((BY_ITSELF[word] for word in words.split(",") if word in BY_ITSELF), VARIANTS[0])
    return (first, *(kind for kind in VARIANTS if kind != first))


def training(name: str, kind: str) -> Values:
    """The paper's phase for a backbone and a variant, all but name and objective.

    It is twice as long where all operating points are trained to the end, but for a backbone of
    which the paper has but one number of epochs.
    """
    phase = TRAINING[name]
    return doubled(phase) if kind in SHARED and name not in BY_ITSELF else phase


def doubled(phase: Values) -> Values:
    """The same phase twice as long, its milestones twice as late."""
    milestones = tuple(2 * epoch for epoch in phase.get("milestones", ()))
    return {**phase, "epochs": 2 * phase["epochs"], "milestones": milestones}


def experiment(
    kind: str, backbone: partial[Any], network: Values, data: Values, phase: Values
) -> ConfigDict:
    """The config of a variant, see `vary`.

    Args:
      kind: one of `VARIANTS`.
      backbone: a class of `jax_elastic.backbones.chains`, and the keys of its group.
      network: the other keys of `Resizable` that all variants share, `side` among them.
      data: its group of keys, `image_shape` among them.
      phase: the one phase, without its name and objective.

    Raises:
      UsageError: `no_aug` of a backbone that is not trained as `aug` by itself.
    """
    if kind == "no_aug" and backbone.func not in [BACKBONES[name].func for name in BY_ITSELF]:
        raise UsageError(
            "variant 'no_aug' is that of resizablenet, which is trained as aug by itself",
            next_step="for this backbone it is called plain",
        )
    keys = {"kind": backbone.func.__name__.lower(), **backbone.keywords}
    stages = len(backbone().standard(network["side"]))
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.runtime = {"log_every": 200, "save_every": 2000}
    own = {"backbone": keys, **network}
    config.update(vary(kind, own, stages, {"name": "train", **phase}, data))
    return config
