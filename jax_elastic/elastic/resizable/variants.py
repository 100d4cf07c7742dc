"""Resizable networks, and what the paper compares them with, as values for a config.

References:
  Resizable Neural Networks (ICLR 2020 submission), its ablations; docs/choices.md R4, R10, R11.
"""

from typing import Any

from jax_elastic.elastic.family import TARGET
from jax_elastic.elastic.resizable.resizable import AXIS
from jax_elastic.subnet import Subnet

Values = dict[str, Any]

VARIANTS = ("rs", "naive", "shared_bn", "individual", "plain", "input_only")
"""What `vary` knows, the paper's own first."""
TARGETED = ("individual", "plain")
"""Those that are trained for one operating point alone."""


def vary(
    kind: str, network: Values, stages: int, phase: Values
) -> tuple[Values, str, tuple[Values]]:
    """The network, the one operating point that it is for if any, and the phases of a variant.

    - `rs`: fair sampling, BN layers for each scale.
    - `naive`: the scales of a step are drawn independently.
    - `shared_bn`: one set of BN layers for all scales.
    - `individual`, `plain`: the fullest operating point alone. Of the one `config.subnet` may be
      another; the other asks whether a network is resizable that was not trained to be.
    - `input_only`: only the image is resized.

    Args:
      kind: one of `VARIANTS`.
      network: the keys of `Resizable` that all variants share.
      stages: how many maps the backbone has.
      phase: the one phase, all but its objective.
    """
    changed: dict[str, Values] = {
        "shared_bn": {"shared_bn": True},
        "input_only": {"places": "input"},
    }
    subnet = str(Subnet(AXIS, (1,) * stages)) if kind in TARGETED else ""
    objective = {"naive": "independent", **dict.fromkeys(TARGETED, TARGET)}
    family = {"family": "resizable", **network, **changed.get(kind, {})}
    return family, subnet, ({**phase, "objective": objective.get(kind, "fair")},)
