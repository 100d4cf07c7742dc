"""How the anytime paper trains, as values for a config: the one phase that there is.

References:
  Anytime Neural Prediction via Slicing Networks Vertically (2018).
"""

from typing import Any

from ml_collections import ConfigDict

Values = dict[str, Any]

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
