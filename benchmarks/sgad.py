"""SGAD's experiments: what its paper claims, and what its reconstruction has to show.

Each is a function Scale -> Experiment, as those of `benchmarks/urnet.py`. Figures of the paper are
those of its table 1 (CIFAR-10, ResNet-32).
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.arm import Arm, Floats, Found
from benchmarks.claims import Claim, difference, std
from benchmarks.urnet import Experiment, Scale, at_macs
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.difficulty import QUARTERS, quarters

PLACES = {
    "small": Scale("configs/sgad_digits.py", "hard"),
    "full": Scale("configs/sgad_cifar10.py", "32"),
}
CONSTANTS = (0.1, 0.2, 0.3)
"""Shares that are expected of every image alike; what the guided network drops lies among them."""
FIRM = "mf, weight_b 10"
SHARE = 0.7
WANTED = f"mf, wanted {SHARE:g}"
"""p_max follows how many blocks run until it is this share."""
TOP1 = {"plain": 93.02, "mf": 93.11, "lf": 92.18}
NFLOPS = {"mf": 0.86, "lf": 0.47}
APART = 0.02
"""The least standard deviation over images of the share of blocks they keep."""


def plans(scale: str) -> Experiment:
    """Whether as much is dropped as is expected, and less of images that are hard."""
    arms = {name: arm(scale, name) for name in ("plain", "mf", "lf")}
    # The paper weighs both losses alike; ten times more of L_B ties a plan closer to its image.
    arms[FIRM] = arm(scale, "mf", "network.weight_b=10.0")
    for name in ("mf", "lf"):
        arms[f"{name} on validation"] = dataclasses.replace(arms[name], split="validation")
    arms[WANTED] = arm(scale, "mf", f"network.wanted={SHARE}")

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        plain = found["plain"]
        rows = [Claim("plain: top-1", "points", 100 * plain.at("top1"), TOP1["plain"])]
        for name in ("mf", "lf", FIRM):
            own, printed = found[name], TOP1.get(name)
            rows += [
                Claim(f"{name}: top-1", "points", 100 * own.at("top1"), printed),
                Claim(
                    f"{name}: top-1, less the plain network's",
                    "points",
                    100 * difference(own.at("top1"), plain.at("top1")),
                    None if printed is None else printed - TOP1["plain"],
                ),
                Claim(
                    f"{name}: MACs with BMNet's, of the plain network's",
                    "share",
                    own.at("macs") / plain.at("macs"),
                    NFLOPS.get(name),
                ),
                *_expectations(name, own),
                *_by_difficulty(name, own, plain.at("loss")),
            ]
        for name in ("mf on validation", "lf on validation"):
            rows += _expectations(name, found[name])
        # One of its blocks has no gate and always runs.
        gates = found[WANTED].values["kept"].shape[-1]
        ran = (gates * found[WANTED].at("usage") + 1) / (gates + 1)
        away = turned(ran - SHARE)
        return [
            *rows,
            Claim(f"{WANTED}: blocks that run", "share", ran),
            Claim(f"{WANTED}: distance from it <= 0.05", "share", away, below=0.05, by_mean=True),
        ]

    return Experiment("what SGAD drops, of which images, and what is expected", arms, claims)


def guidelines(scale: str) -> Experiment:
    """The guideline against the same expectation for all, at equal mean MACs; other mappings."""
    words = ("mf", "convex", "linear", "no_sgnet")
    arms = {name: arm(scale, name) for name in ("plain", *words)}
    for share in CONSTANTS:
        arms[f"constant {share:g}"] = arm(scale, "constant", f"network.p_max={share}")

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        plain = found["plain"]
        rows = []
        for name, own in found.items():
            if name != "plain":
                rows += [
                    Claim(f"{name}: top-1", "points", 100 * own.at("top1")),
                    Claim(f"{name}: blocks dropped", "share", dropped(own)),
                    Claim(f"{name}: std of the blocks kept", "share", std(own.at("usage"))),
                    _harder(name, own, plain.at("loss")),
                ]
        for share in CONSTANTS:
            own = found[f"constant {share:g}"]
            more = [in_quarters(arm, plain.at("loss")) for arm in (found["mf"], own)]
            text = f"hardest quarter less easiest: mf less constant {share:g} > 0"
            rows.append(Claim(text, "share", difference(*more), above=0.0))
        constants = merged([found[f"constant {share:g}"] for share in CONSTANTS])
        for name in ("mf", "convex", "linear"):
            rows.append(against(name, found[name], constants, plain))
        return rows

    return Experiment("guided by a second network against the same share for all", arms, claims)


def differences(scale: str) -> Experiment:
    """What makes plans differ between images: each setting by which digits differ from the paper.

    Refused at other scales, where the configs have the paper's settings.
    """
    if scale != "small":
        raise UsageError(f"sgad_differences has no scale {scale!r}", "small")
    without = {
        "as configured": (),
        "temperature 1": ("network.temperature=1.0",),
        "no blanked squares": ("data.cutout=0",),
        "noise 2": ("network.noise=2.0",),
        "none of these": ("network.temperature=1.0", "data.cutout=0", "network.noise=2.0"),
    }
    arms = {name: arm(scale, "mf", *settings) for name, settings in without.items()}
    arms["plain"] = arm(scale, "plain")

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for name in without:
            own = found[name]
            rows += [
                Claim(f"{name}: std of what is expected", "share", std(own.at("expected"))),
                Claim(f"{name}: std of the blocks kept", "share", std(own.at("usage"))),
                _harder(name, own, found["plain"].at("loss")),
                Claim(f"{name}: top-1", "points", 100 * own.at("top1")),
            ]
        return rows

    return Experiment("what lets a plan depend on its image", arms, claims)


def noise(scale: str) -> Experiment:
    """Gates whose noise grows in training against gates without: which of them are decided."""
    arms = {
        "none": arm(scale, "no_noise"),
        "as configured": arm(scale, "mf"),
        "2": arm(scale, "mf", "network.noise=2.0"),
    }

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for name, own in found.items():
            label = f"noise {name}"
            rows += [
                Claim(f"{label}: gates are decided", "share", own.at("decided")),
                Claim(f"{label}: top-1", "points", 100 * own.at("top1")),
                *_expectations(label, own),
            ]
        for name in ("as configured", "2"):
            more = difference(found[name].at("decided"), found["none"].at("decided"))
            rows.append(
                Claim(f"gates are decided: noise {name} less none > 0", "share", more, above=0.0)
            )
        return rows

    return Experiment("noise before the gates: with it they become saturated", arms, claims)


def arm(scale: str, name: str, *settings: str) -> Arm:
    """The arm of one variant; LF-SGAD starts from MF-SGAD, the plain network tells gradients."""
    place = PLACES[scale]
    start = place.name("mf") if name == "lf" else None
    of_plain = ("runtime.gradients=True",) if name == "plain" else ()
    return Arm(place.name(name), start, settings=(*of_plain, *settings))


def dropped(found: Found) -> Floats:
    """(seeds, images), the share of the blocks that can be dropped and are."""
    share: Floats = 1 - found.at("usage")
    return share


def merged(arms: list[Found]) -> Found:
    """Several networks as one with several budgets."""
    names = ("top1", "macs")
    values = {name: np.concatenate([arm.values[name] for arm in arms], 1) for name in names}
    return Found(tuple(range(len(arms))), values)


def against(name: str, own: Found, constants: Found, plain: Found) -> Claim:
    """Hits of a network less those at its mean MACs between networks of constant shares."""
    macs, means = own.at("macs"), constants.values["macs"].mean(2)
    reached = (means.min(1) <= macs.mean(1)) & (macs.mean(1) <= means.max(1))
    if not reached.all():
        # No number is better than one of unequal costs.
        text = f"{name}: no constant shares reach its mean MACs, of the plain network's"
        return Claim(text, "share", macs / plain.at("macs"))
    rival, _ = at_macs(constants, macs.mean(1))
    return Claim(
        f"{name}: top-1, less that of constant shares at equal mean MACs, > 0",
        "points",
        100 * difference(own.at("top1"), rival),
        above=0.0,
    )


def _expectations(name: str, own: Found) -> list[Claim]:
    expected, share = own.at("expected"), dropped(own)
    text = f"{name}: |mean expected - mean dropped| <= 0.05"
    return [
        Claim(f"{name}: expected to be dropped", "share", expected),
        Claim(f"{name}: dropped", "share", share),
        Claim(text, "share", turned(expected - share), below=0.05, by_mean=True),
        Claim(f"{name}: std of the blocks kept > {APART:g}", "share", std(share), above=APART),
    ]


def turned(errors: Floats) -> Floats:
    """Errors (seeds, images) so that each seed's mean is positive: two seeds must not cancel."""
    positive: Floats = errors * np.sign(errors.mean(1, keepdims=True))
    return positive


def _by_difficulty(name: str, own: Found, loss: Floats) -> list[Claim]:
    """Blocks kept by the images of each quarter of the plain network's loss."""
    kept, places = own.at("usage"), np.stack([quarters(of) for of in loss])
    rows = [
        Claim(f"{name}: blocks kept, {quarter} quarter", "share", in_quarter(kept, places, i))
        for i, quarter in enumerate(QUARTERS)
    ]
    return [*rows, _harder(name, own, loss)]


def _harder(name: str, own: Found, loss: Floats) -> Claim:
    text = f"{name}: the hardest quarter keeps more than the easiest"
    return Claim(text, "share", in_quarters(own, loss), above=0)


def in_quarters(own: Found, loss: Floats) -> Floats:
    """Values (seeds, images) whose mean is how much more the hardest quarter keeps."""
    kept, places = own.at("usage"), np.stack([quarters(of) for of in loss])
    return difference(in_quarter(kept, places, 3), in_quarter(kept, places, 0))


def in_quarter(values: Floats, places: npt.NDArray[np.int64], quarter: int) -> Floats:
    """Values (seeds, images) whose mean is that of one quarter of the images, mean of the seeds.

    Each image's part in it, so that what differs between quarters is not taken for noise: the mean
    for images of other quarters, and for those in it four times their distance from it.

    Args:
      values: (seeds, images).
      places: (seeds, images), the quarter each image lies in.
      quarter: 0 to 3.
    """
    there = places == quarter
    count = there.sum(1, keepdims=True)
    mean = (values * there).sum(1, keepdims=True) / count
    parts: Floats = mean + there * (values - mean) * (values.shape[1] / count)
    return parts


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {
    "sgad_plans": plans,
    "sgad_guidelines": guidelines,
    "sgad_differences": differences,
    "sgad_noise": noise,
}
"""Name -> experiment at a scale, `small` or `full`."""
