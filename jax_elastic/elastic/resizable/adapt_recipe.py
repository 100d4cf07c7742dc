"""How a trained resizable network learns to choose, as values for a config.

References:
  Resizable Neural Networks (ICLR 2020 submission), RS-Adapt; what it leaves open:
  docs/choices.md R6, R18.
"""

from typing import Any

Values = dict[str, Any]

LEARNING: Values = {
    "name": "learner",
    "objective": "learner",
    "trainable": "^learner/",
    "epochs": 10.0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "bn": "batch",
    "finetune": True,
}
"""The one phase: the network itself stays as it was trained.

No gradient would reach it; `trainable` keeps weight decay from it, too, and lets a run refuse
`config.init_from` of one that has no such network.
"""


def choosing(network: Values, phase: Values, width: int = 256) -> tuple[Values, Values]:
    """The network and the phase that come after a resizable network is trained.

    The run takes the weights of that one, `config.init_from`, the targets that were computed of it,
    `config.data.targets`, and their candidates, `config.network.pool`.

    Args:
      network: the keys of `Resizable`, those of the run that it starts from.
      phase: that trained it; the batch size is kept.
      width: of the learner; as wide as the paper's it costs more than a small network.

    Returns:
      The groups `network` and one of `phases`.
    """
    base = {key: value for key, value in network.items() if key != "family"}
    return (
        {"family": "adapt", "base": base, "pool": "", "width": width},
        {"batch_size": phase["batch_size"], **LEARNING},
    )
