"""Resizable networks, and what the paper compares them with, as values for a config.

References:
  Resizable Neural Networks (ICLR 2020 submission), its ablations and table 2; docs/choices.md R4,
  R10, R11, R14, R15.
"""

from typing import Any

from jax_elastic.elastic.abilities import TARGET
from jax_elastic.elastic.resizable.adapt_recipe import choosing
from jax_elastic.elastic.resizable.resizable import AXIS
from jax_elastic.subnet import Subnet

Values = dict[str, Any]

SHARED = ("rs", "naive", "shared_bn", "input_only")
"""Those that are trained for all operating points to the end."""
SWITCHED = ("aug", "aug_no_banks")
"""Those that are trained for all at first, and then for the fullest alone."""
ALONE = ("individual", "plain", "no_aug", "cutout", "mixup")
"""Those that are trained for one alone from the start."""
VARIANTS = (*SHARED, "nas", "adapt", *SWITCHED, *ALONE)
"""What `vary` knows, the paper's own first."""

SWITCH = 0.6  # of the epochs are over when `SWITCHED` go on with the fullest alone
_NETWORK: dict[str, Values] = {
    "shared_bn": {"shared_bn": True},
    "aug_no_banks": {"shared_bn": True},
    "input_only": {"places": "input"},
}


def vary(kind: str, network: Values, stages: int, phase: Values, data: Values) -> Values:
    """The groups of a variant's config: `network`, `subnet`, `phases` and `data`.

    - `rs`: fair sampling, BN layers for each scale.
    - `naive`: the scales of a step are drawn independently.
    - `shared_bn`: one set of BN layers for all scales.
    - `input_only`: only the image is resized.
    - `nas`: goes on from the weights of `rs`, `config.init_from`, with the one operating point that
      `config.subnet` names; nothing is that point until it is named.
    - `adapt`: goes on from the weights of `rs`, `config.init_from`, with a learner that chooses a
      point for each image; it is taught by `config.data.targets`.
    - `aug`: as `rs`, then the fullest alone, in the epochs and at the learning rates of `plain`.
    - `aug_no_banks`: the same with one set of BN layers for all scales.
    - `individual`, `plain`: the fullest operating point alone. Of the one `config.subnet` may be
      another; the other asks whether a network is resizable that was not trained to be.
    - `no_aug`: as `plain`; what a network that is usually trained as `aug` is without it.
    - `cutout`, `mixup`: `plain` with that augmentation, which `aug` is compared with.

    Args:
      kind: one of `VARIANTS`.
      network: the keys of `Resizable` that all variants share.
      stages: how many maps the backbone has.
      phase: the one phase, all but its objective.
      data: its group of keys, `image_shape` among them.
    """
    one = kind in ALONE or kind in SWITCHED
    own = {"family": "resizable", **network, **_NETWORK.get(kind, {})}
    phases = _phases(kind, phase)
    if kind == "adapt":
        own, learning = choosing(own, phase)
        phases = (learning,)
    return {
        "network": own,
        "subnet": str(Subnet(AXIS, (1,) * stages)) if one else "",
        "phases": phases,
        "data": {**data, **_augmentation(kind, data["image_shape"])},
    }


def _phases(kind: str, phase: Values) -> tuple[Values, ...]:
    if kind in SWITCHED:
        return switched(phase)
    if kind == "nas":
        return finetuned(phase)
    if kind in ALONE:
        return ({**phase, "objective": TARGET},)
    return ({**phase, "objective": "independent" if kind == "naive" else "fair"},)


def finetuned(phase: Values) -> tuple[Values]:
    """The phase that finetunes one point of a network that `phase` trained."""
    return (
        {
            **phase,
            "name": "finetune",
            "epochs": 15.0,
            "learning_rate": 0.01,
            "schedule": "cosine",
            "milestones": (),
            "objective": TARGET,
            "finetune": True,
        },
    )


def switched(phase: Values) -> tuple[Values, Values]:
    """All points, then the one that the run is for, in the epochs and at the rates of `phase`."""
    epochs = phase["epochs"]
    switch = SWITCH * epochs
    both = {**phase, "schedule_epochs": epochs}
    return (
        {**both, "name": "fair", "epochs": switch, "objective": "fair"},
        {
            **both,
            "name": "target",
            "epochs": epochs - switch,
            "schedule_start": switch,
            "objective": TARGET,
        },
    )


def _augmentation(kind: str, image_shape: tuple[int, ...]) -> Values:
    if kind == "cutout":
        return {"cutout": image_shape[0] // 2}
    return {"mixup": 0.2} if kind == "mixup" else {}
