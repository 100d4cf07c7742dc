"""URNet's baselines and ablations as differences from it, by the names that configs use."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_elastic.elastic.registry import FAMILIES
from jax_elastic.errors import UsageError

Values = dict[str, Any]

BACKBONE = r"^(?!policy/)(?!.*/gate/)"
"""The parameters that the plain network has, too: what a base phase trains.

Others have no gradient there, but weight decay would shrink them all the same.
"""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs from URNet.

    Attributes:
      family: in `FAMILIES`; settings of URNet's that it does not have are left out.
      network: settings that differ.
      phases: names of the phases that are kept; None for all.
      changes: by phase name, what differs there.
    """

    family: str = "urnet"
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    phases: tuple[str, ...] | None = None
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def _fixed(target: float) -> Variant:
    changes = {"gates": {"objective": "annealed"}}
    return Variant("urnet_fixed", {"target": target, "s_min": 0.0, "s_max": 1.0}, changes=changes)


VARIANTS: dict[str, Variant] = {
    "urnet": Variant(),
    "base": Variant("plain", phases=("base",), changes={"base": {"validate": True}}),
    # docs/choices.md U18: what is dropped is drawn, at test or in training too.
    "rand_val": Variant("random_drop", phases=("base",)),
    "rand_train": Variant("random_drop", phases=("base", "joint", "settle")),
    "external": Variant(
        "external", changes={"gates": {"trainable": "^policy/", "objective": "policy"}}
    ),
    "sg": Variant(network={"p": 1.0}),  # always the sigmoid in training
    "bg": Variant(network={"p": 0.0}),  # always the step: the gates never train
    "ba": Variant("urnet_soft", {"p": 1.0}),  # trained as `sg`, tested with its sigmoids
    "ba_rand": Variant("soft_drop"),
    **{f"fixed{target}": _fixed(target) for target in (0.5, 0.6, 0.7)},
    **{f"beta{beta}": Variant(network={"beta": float(beta)}) for beta in (1, 2, 4, 8)},
}
"""Name -> variant; the first is URNet itself."""


def vary(name: str, network: Values, phases: Sequence[Values]) -> tuple[Values, tuple[Values, ...]]:
    """The network and the phases of a variant, for a config.

    Args:
      name: in `VARIANTS`.
      network: settings of URNet and of families that `VARIANTS` names, without `family`; each
        variant takes those it has.
      phases: of URNet: `base`, `gates`, `joint` and, where a recipe has it, `settle`.

    Returns:
      (network, phases); the phases that are kept are those of the given order.
    """
    if name not in VARIANTS:
        raise UsageError(f"unknown variant {name!r}", "one of " + ", ".join(VARIANTS))
    _check_known(network)
    variant = VARIANTS[name]
    merged = {**network, **variant.network}
    known = _settings(variant.family)
    kept = [p for p in phases if variant.phases is None or p["name"] in variant.phases]
    return (
        {
            "family": variant.family,
            **{key: value for key, value in merged.items() if key in known},
        },
        tuple({**phase, **variant.changes.get(phase["name"], {})} for phase in kept),
    )


def _settings(family: str) -> set[str]:
    return {field.name for field in dataclasses.fields(FAMILIES[family])}  # type: ignore[arg-type]


def _check_known(network: Values) -> None:
    """Refuses a key that no variant has: it would be left out without a word."""
    known = set.union(*(_settings(variant.family) for variant in VARIANTS.values()))
    if unknown := sorted(set(network) - known):
        what = f"no variant has a setting {unknown[0]!r}"
        raise UsageError(what, "one of " + ", ".join(sorted(known)))
