"""Resizable networks, and what the paper compares them with, as values for a config.

References:
  Resizable Neural Networks (ICLR 2020 submission), its ablations; docs/choices.md R4, R10, R11.
"""

from typing import Any

Values = dict[str, Any]

VARIANTS = ("rs", "naive", "shared_bn", "individual", "plain", "input_only")
"""What `vary` knows, the paper's own first."""
TARGETED = ("individual", "plain")
"""Those that are trained for one operating point alone."""


def vary(kind: str, network: Values, stages: int, phase: Values) -> tuple[Values, tuple[Values]]:
    """The network and the phases of a variant.

    - `rs`: fair sampling, BN layers for each scale.
    - `naive`: the scales of a step are drawn independently.
    - `shared_bn`: one set of BN layers for all scales.
    - `individual`, `plain`: the fullest operating point alone. Of the one `target` may be another
      point; the other asks whether a network is resizable that was not trained to be.
    - `input_only`: only the image is resized.

    Args:
      kind: one of `VARIANTS`.
      network: the keys of `Resizable` that all variants share.
      stages: how many maps the backbone has.
      phase: the one phase, all but its objective.
    """
    full = {"target": (1.0,) * stages}
    changed: dict[str, Values] = {
        "shared_bn": {"shared_bn": True},
        "input_only": {"places": "input"},
        **dict.fromkeys(TARGETED, full),
    }
    objective = {"naive": "independent", **dict.fromkeys(TARGETED, "target")}
    family = {"family": "resizable", **network, **changed.get(kind, {})}
    return family, ({**phase, "objective": objective.get(kind, "fair")},)
