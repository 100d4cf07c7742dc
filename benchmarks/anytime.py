"""The anytime experiments: what the paper of I- and IS-ResNeXt claims, in small.

Each is a function Scale -> Experiment, as those of `benchmarks/urnet.py`. The paper shows these
comparisons as curves over CIFAR, so no printed figure stands beside ours.
"""

from collections.abc import Callable, Mapping

from benchmarks.anytime_arms import NESTED, WIDE
from benchmarks.arm import Arm, Floats, Found
from benchmarks.claims import Claim, difference
from benchmarks.urnet import Experiment
from jax_elastic.errors import UsageError

THINNEST = 1
ALL = range(1, WIDE.subnetworks + 1)


def independent_bn(scale: str) -> Experiment:
    """BN of each sub-network's own against one for all: the thinnest needs its own."""

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for k in ALL:
            own, shared = (100 * at(found[name], "top1", k) for name in ("i", "shared_bn"))
            claimed = k == THINNEST
            rows += [
                Claim(f"k = {k}: top-1, BN of its own", "points", own),
                Claim(f"k = {k}: top-1, shared BN", "points", shared),
                Claim(
                    f"k = {k}: top-1 of own BN less that of shared" + " > 0" * claimed,
                    "points",
                    difference(own, shared),
                    above=0.0 if claimed else None,
                ),
            ]
        return rows

    return Experiment(
        "I-ResNeXt: independent BN against shared", arms(scale, "i", "shared_bn"), claims
    )


def thin(scale: str) -> Experiment:
    """Few branches in all blocks against all branches in few blocks, each trained alone."""
    pairs = {k: (f"thin{k}", f"shallow{k}") for k in NESTED}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for k, names in pairs.items():
            thin, shallow = (100 * at(found[name], "top1") for name in names)
            cost = difference(*(at(found[name], "macs") for name in names))
            rows += [
                Claim(f"thin {k}: top-1", "points", thin),
                Claim(f"shallow {k}: top-1", "points", shallow),
                Claim(
                    f"top-1 of thin {k} less that of shallow {k} > 0",
                    "points",
                    difference(thin, shallow),
                    above=0.0,
                ),
                Claim(
                    f"MACs of thin {k} less those of shallow {k}, of the latter",
                    "share",
                    cost / at(found[names[1]], "macs"),
                ),
            ]
        return rows

    names = [name for pair in pairs.values() for name in pair]
    return Experiment("thin against shallow at equal MACs", arms(scale, *names), claims)


def one_pass(scale: str) -> Experiment:
    """IS-ResNeXt, one pass for all K answers, against I-ResNeXt, a pass for each."""

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for k in ALL:
            ours, theirs = (100 * at(found[name], "top1", k) for name in ("is", "i"))
            cost, other = (at(found[name], "macs", k) for name in ("is", "i"))
            rows += [
                Claim(f"k = {k}: top-1 of IS", "points", ours),
                Claim(f"k = {k}: top-1 of IS less that of I", "points", difference(ours, theirs)),
                Claim(
                    f"k = {k}: MACs of IS less those of I, of the latter",
                    "share",
                    difference(cost, other) / other,
                ),
            ]
        return rows

    return Experiment("IS-ResNeXt against I-ResNeXt", arms(scale, "is", "i"), claims)


def arms(scale: str, *names: str) -> dict[str, Arm]:
    """Arms by the names of their networks.

    Raises:
      UsageError: another scale than `small`.
    """
    if scale != "small":
        raise UsageError(f"the anytime experiments have no scale {scale!r}", "small")
    return {name: Arm(f"benchmarks/anytime_arms.py:{name}") for name in names}


def at(found: Found, measure: str, k: int = 1) -> Floats:
    """(seeds, images) of a measure at exit k of an arm; a network alone has one."""
    return found.values[measure][:, k - 1]


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {
    "anytime_bn": independent_bn,
    "anytime_thin": thin,
    "anytime_is": one_pass,
}
"""Name -> experiment at scale `small`."""
