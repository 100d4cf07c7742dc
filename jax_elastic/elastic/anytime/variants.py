"""I-ResNeXt and what it is compared with, as networks for a config, by the names configs use."""

from collections.abc import Sequence
from typing import Any

from jax_elastic.errors import UsageError

Values = dict[str, Any]

OWN_BN = "own_bn"
"""The name of I-ResNeXt itself."""


def variants(backbone: Values, subnetworks: int, after: Sequence[int] = ()) -> dict[str, Values]:
    """Every variant's network.

    - `own_bn`: I-ResNeXt, whose sub-networks have BN layers of their own; it comes first.
    - `shared_bn`: all share one set.
    - `thin1` ... `thinK`: the network of a sub-network's width, trained alone.
    - `shallow_joint`: exits after some blocks of the whole network, trained together.
    - `shallow_separateN`: the first N blocks with one exit, trained alone.

    Args:
      backbone: settings of a `ResNeXt`, with `stage_sizes` and `branches`.
      subnetworks: K.
      after: blocks, counted from 1, after which the shallow ones end; none: no such variants.

    References:
      Anytime Neural Prediction via Slicing Networks Vertically (2018).
    """
    family = {"family": "iresnext", "backbone": backbone, "subnetworks": subnetworks}
    found: dict[str, Values] = {OWN_BN: family, "shared_bn": {**family, "shared_bn": True}}
    for k in range(1, subnetworks + 1):
        found[f"thin{k}"] = plain({**backbone, "branches": backbone["branches"] * k // subnetworks})
    if after:
        shallow = {"kind": "shallowresnext", "resnext": backbone, "after": tuple(after)}
        found["shallow_joint"] = {"family": "exits", "backbone": shallow}
    for blocks in after:
        sizes = first_blocks(backbone["stage_sizes"], blocks)
        found[f"shallow_separate{blocks}"] = plain({**backbone, "stage_sizes": sizes})
    return found


def plain(backbone: Values) -> Values:
    """The network of a `ResNeXt` with one operating point."""
    return {"family": "plain", "backbone": {"kind": "resnext", **backbone}}


def first_blocks(stage_sizes: Sequence[int], blocks: int) -> tuple[int, ...]:
    """The sizes of the stages of the first so many blocks: ``((3, 3, 3), 4) -> (3, 1)``."""
    found = []
    for size in stage_sizes:
        found.append(min(size, blocks))
        blocks -= found[-1]
    return tuple(size for size in found if size)


def pick(found: dict[str, Values], name: str) -> Values:
    """The network of a name.

    Raises:
      UsageError: this network has no such variant.
    """
    if name not in found:
        raise UsageError(f"this network has no variant {name!r}", "one of " + ", ".join(found))
    return found[name]
