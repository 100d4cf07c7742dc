"""How the anytime paper trains, as values for a config: its data, and the one phase that there is.

References:
  Anytime Neural Prediction via Slicing Networks Vertically (2018).
"""

from typing import Any

from ml_collections import ConfigDict

Values = dict[str, Any]

CIFAR10: Values = {
    "name": "cifar10",
    "image_shape": (32, 32, 3),
    "validation": 0.1,
    "pad": 4,
    "flip": True,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}
"""5,000 of the 50,000 images for training are held out."""

CIFAR100: Values = {
    **CIFAR10,
    "name": "cifar100",
    "mean": (0.5071, 0.4865, 0.4409),
    "std": (0.2673, 0.2564, 0.2762),
}

IMAGENET: Values = {
    "name": "imagenet2012",
    "image_shape": (224, 224, 3),
    "validation": 0.039,  # 50,000 of 1,281,167
    "pad": 0,
    "flip": True,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}

CUB: Values = {
    **IMAGENET,
    "name": "folder:cub200",
    "validation": 1 / 6,  # 5 images of each class: 1,000 of 5,994
    "pad": 28,  # of 224, as 4 of CIFAR's 32
}

ON_CIFAR: Values = {"epochs": 300.0, "batch_size": 64, "milestones": (150.0, 225.0)}
ON_CUB: Values = {"epochs": 150.0, "batch_size": 64, "milestones": (75.0, 112.5)}
ON_IMAGENET: Values = {"epochs": 90.0, "batch_size": 96, "milestones": (30.0, 60.0)}
"""What of the phase depends on the data."""


def experiment(network: Values, data: Values, training: Values) -> ConfigDict:
    """The config of a network that is trained in one phase.

    Args:
      network: its group of keys; `plain` ones have the objective `base`, all others `anytime`,
        and the phase is called the same.
      data: its group of keys.
      training: keys of the phase beside the paper's optimizer, or instead of it.
    """
    objective = "base" if network["family"] == "plain" else "anytime"
    phase = {
        "name": objective,
        "objective": objective,
        "learning_rate": 0.1,
        "nesterov": True,
        "weight_decay": 1e-4,
        "schedule": "step",
        **training,
    }
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = data
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.network = network
    config.phases = (phase,)
    return config
