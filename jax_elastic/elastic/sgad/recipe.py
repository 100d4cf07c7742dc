"""How SGAD is trained, as values for a config: from scratch, finetuned, and with one thing missing.

References:
  SGAD (2018), section 4; what it leaves open: docs/choices.md S9, S10.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jax_elastic.errors import UsageError

Values = dict[str, Any]

USES: tuple[str, ...] = ("mf", "lf", "plain")
"""`mf` drops a little and is trained from scratch; `lf` drops more and is finetuned from `mf`.

`plain` is the network without gates, by the recipe of `mf`.
"""

ABLATIONS: dict[str, Values] = {
    "concave": {},
    "convex": {"guideline": "convex"},
    "linear": {"guideline": "linear"},
    "constant": {"guideline": "constant"},  # the same share is expected for every image
    "no_sgnet": {"guideline": "none"},  # nothing is expected: the network's loss alone
    "no_noise": {"noise": 0.0},
}
"""Name -> settings that differ from SGAD's own, which comes first."""

P_MAX: dict[tuple[int, str], Mapping[str, float]] = {
    (10, "32"): {"mf": 0.16, "lf": 0.6},
    (10, "110"): {"mf": 0.15, "lf": 0.8},
    (100, "32"): {"mf": 0.30, "lf": 0.38},
    (100, "110"): {"mf": 0.07, "lf": 0.27},
}
"""Where p_max starts for CIFAR, by classes and depth."""

SCRATCH: Values = {
    "epochs": 220.0,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "step",
    "milestones": (128.0, 160.0, 192.0),
    "weight_decay": 1e-4,
}
"""The paper's phase on CIFAR, all but name and objective."""

FINETUNING: Values = {
    "epochs": 100.0,
    "batch_size": 128,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "weight_decay": 1e-4,
}
"""The phase after it, from weights that it left."""


def experiment(
    use: str,
    ablation: str,
    backbone: Values,
    p_max: Mapping[str, float],
    data: Values,
    scratch: Values,
    finetuning: Values,
    guiding: Values | None = None,
) -> ConfigDict:
    """The config of a variant.

    Args:
      use: one of `USES`.
      ablation: of `ABLATIONS`.
      backbone: the keys of its group.
      p_max: for each use.
      data: its group of keys.
      scratch: the phase of `mf`, without its name and objective.
      finetuning: the same of `lf`, which needs `config.init_from`.
      guiding: settings of the network that differ from the paper's.

    Raises:
      UsageError: a plain network is to differ by an ablation.
    """
    if use == "plain" and ablation != next(iter(ABLATIONS)):
        raise UsageError(
            f"a plain network has nothing that {ablation!r} could change",
            "plain goes with no such word",
            f"leave {ablation!r} out, or take mf or lf in place of plain",
        )
    first = {"name": "scratch", "objective": "guided", **scratch}
    second = {"name": "finetune", "objective": "finetuned", "finetune": True, **finetuning}
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.data = data
    if use == "plain":
        config.network = {"family": "plain", "backbone": backbone}
        config.phases = ({**first, "objective": "base"},)
        return config
    config.network = {
        "family": "sgad",
        "backbone": backbone,
        "p_max": p_max[use],
        **(guiding or {}),
        **ABLATIONS[ablation],
    }
    config.phases = (first if use == "mf" else second,)
    return config


def on_cifar(depth: str, use: str, ablation: str, classes: int, data: Values) -> ConfigDict:
    """The config of a variant at the paper's settings.

    Args:
      depth: `32` or `110`.
      use: see `experiment`.
      ablation: see `experiment`.
      classes: 10 or 100.
      data: its group of keys; all training images are used, so nothing is chosen.
    """
    size = (int(depth) - 2) // 6
    backbone = {"stage_sizes": (size,) * 3, "width": 16, "classes": classes}
    scratch = SCRATCH
    if depth == "110":
        # At this depth SGD does not start at 0.1 (He et al. 2016, section 4.2).
        warmup = {"warmup_epochs": 1.0, "warmup": "constant", "warmup_learning_rate": 0.01}
        scratch = {**SCRATCH, **warmup}
    p_max = P_MAX[classes, depth]
    whole = {**data, "validation": 0.0}
    return experiment(use, ablation, backbone, p_max, whole, scratch, FINETUNING)
