"""How the paper trains resizable networks, as values for a config: backbones, and one phase each.

References:
  Resizable Neural Networks (ICLR 2020 submission); what it leaves open: docs/choices.md R5.
"""

from typing import Any

from ml_collections import ConfigDict

from jax_elastic.elastic.resizable.variants import TARGETED, vary

Values = dict[str, Any]

BACKBONES: dict[str, Values] = {
    "resnet50": {"stage_sizes": (3, 4, 6, 3), "width": 64, "block": "bottleneck"},
    "mobilenet_v1": {"kind": "mobilenetv1"},
    "mobilenet_v2": {"kind": "mobilenetv2"},
    "shufflenet_v2": {"kind": "shufflenetv2"},
    "resizablenet": {"kind": "resizablenet"},
}
"""By name, without what depends on the images."""

STAGES = {
    "resnet50": 4,
    "mobilenet_v1": 5,
    "mobilenet_v2": 5,
    "shufflenet_v2": 4,
    "resizablenet": 4,
}
"""How many maps of each can be resized."""

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


def experiment(kind: str, network: Values, stages: int, data: Values, phase: Values) -> ConfigDict:
    """The config of a variant, see `vary`.

    Args:
      kind: one of `VARIANTS`.
      network: the keys of `Resizable` that all variants share.
      stages: how many maps the backbone has.
      data: its group of keys.
      phase: the one phase, without its name and objective.
    """
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = data
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.network, config.phases = vary(kind, network, stages, {"name": "train", **phase})
    return config
