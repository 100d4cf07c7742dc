"""URNet's experiments: what its paper claims, and what this project promises of its demo.

Each is a function Scale -> Experiment; figures of the paper are those of its table 1 (CIFAR-10,
ResNet-110), in percent and as shares of 54 blocks.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.arms import Arm, Floats, Found
from benchmarks.claims import Claim


@dataclasses.dataclass(frozen=True)
class Scale:
    """Where an experiment is run.

    Attributes:
      config: the config file.
      words: its variant, to which the arm's name is added.
    """

    config: str
    words: str

    def name(self, arm: str) -> str:
        """The config of an arm."""
        return f"{self.config}:{self.words},{arm}"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Arms, and what is claimed of them.

    Attributes:
      about: one line.
      arms: by name.
      claims: what the arms gave -> claims, in the order of the report.
    """

    about: str
    arms: Mapping[str, Arm]
    claims: Callable[[Mapping[str, Found]], Sequence[Claim]]


DIGITS = Scale("configs/urnet_digits.py", "digits")
HARD = Scale("configs/urnet_digits.py", "hard")
CIFAR10 = Scale("configs/urnet_cifar10.py", "110")

TENTHS = tuple(round(0.1 * i, 1) for i in range(1, 11))
FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
# The run of this variant is the base phase alone, from which all others start.
BASE = "rand_val"


def budgets(scale: str) -> Experiment:
    """The bars of the demo: tracking, monotonicity, range, accuracy at the highest usage."""
    place = {"small": DIGITS, "full": CIFAR10}[scale]
    arms = {
        "urnet": Arm(place.name("urnet"), budgets=TENTHS),
        "base": Arm(place.name("base")),
    }

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        urnet = found["urnet"]
        rows = []
        for budget in TENTHS:
            bar = 0.05 if 0.3 <= budget <= 0.8 else 0.1
            asked = None if budget in (0.1, 1.0) else bar
            rows.append(
                Claim(
                    f"tracking error at S = {budget:g}" + (f" <= {bar:g}" if asked else ""),
                    "share",
                    _error(urnet.at("usage", budget), budget),
                    below=asked,
                    by_mean=True,
                )
            )
        usage = np.stack([urnet.at("usage", budget) for budget in TENTHS])
        steps = np.diff(usage, axis=0)
        least = steps.mean((1, 2)).argmin()
        highest = TENTHS[int(usage.mean((1, 2)).argmax())]
        lowest = TENTHS[int(usage.mean((1, 2)).argmin())]
        return [
            *rows,
            Claim(
                "usage never falls with S: least step",
                "share",
                steps[least],
                None,
                -1e-9,
                None,
                True,
            ),
            Claim(
                "range of usage >= 0.55",
                "share",
                urnet.at("usage", highest) - urnet.at("usage", lowest),
                above=0.55,
                by_mean=True,
            ),
            Claim(
                "top-1 at the highest usage, less the plain network's: no loss of 2 points",
                "points",
                100 * (urnet.at("top1", highest) - found["base"].at("top1")),
                paper=93.6 - 93.2,
                above=-2.0,
            ),
        ]

    return Experiment("the demo's bars, over seeds", arms, claims)


def _error(usage: Floats, budget: float) -> Floats:
    """Values whose mean is that of |mean usage - S| over the seeds."""
    error = usage - budget
    signed: Floats = error * np.sign(error.mean(1, keepdims=True))
    return signed


def baselines(scale: str) -> Experiment:
    """URNet at S = 0.4 against what its paper's table 1 compares it with."""
    place = {"small": HARD, "full": CIFAR10}[scale]
    names = ("urnet", "rand_train", "external", "sg", "bg", "ba_rand")
    arms = {name: Arm(place.name(name), start=place.name(BASE), budgets=FIFTHS) for name in names}
    arms["rand_val"] = Arm(place.name(BASE), budgets=FIFTHS)
    arms["ba"] = Arm(
        place.name("ba"), place.name(BASE), trained_as=place.name("sg"), budgets=FIFTHS
    )
    # Of table 1 at S = 0.4: accuracy, and blocks of 54.
    paper = {
        "urnet": (93.3, 20.86),
        "rand_val": (15.4, 21.65),
        "rand_train": (91.0, 21.65),
        "external": (92.6, 32.30),
        "sg": (21.4, 14.05),
        "bg": (93.1, 28.60),
        "ba": (None, 54.0),
        "ba_rand": (91.1, 21.54),
    }

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        top1 = {name: 100 * arm.at("top1", 0.4) for name, arm in found.items()}
        usage = {name: arm.at("usage", 0.4) for name, arm in found.items()}
        for name, (accuracy, blocks) in paper.items():
            rows.append(Claim(f"{name}: top-1", "points", top1[name], accuracy))
            rows.append(Claim(f"{name}: blocks used", "share", usage[name], blocks / 54))
        for name, (accuracy, blocks) in paper.items():
            if name == "urnet":
                continue
            gain = None if accuracy is None else 93.3 - accuracy
            rows.append(
                Claim(
                    f"urnet is more accurate than {name}",
                    "points",
                    top1["urnet"] - top1[name],
                    gain,
                    above=0.0,
                )
            )
            rows.append(
                Claim(
                    f"urnet uses fewer blocks than {name}",
                    "share",
                    usage["urnet"] - usage[name],
                    (20.86 - blocks) / 54,
                    below=0.0,
                )
            )
        return rows

    return Experiment("URNet at S = 0.4 against its baselines and ablations", arms, claims)


GRID = tuple(round(0.05 * i, 2) for i in range(1, 21))


def fixed(scale: str) -> Experiment:
    """URNet(Fixed) against the ranged URNet at equal mean MACs (figure 8)."""
    place = {"small": HARD, "full": CIFAR10}[scale]
    start = place.name(BASE)
    targets = (0.5, 0.6, 0.7)
    arms = {f"fixed{t}": Arm(place.name(f"fixed{t}"), start, budgets=(t,)) for t in targets}
    arms["urnet"] = Arm(place.name("urnet"), start, budgets=GRID)

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        ranged = found["urnet"]
        for target in targets:
            own = found[f"fixed{target}"]
            macs = own.at("macs", target)
            full = float(ranged.at("macs", 1.0).max())
            top1, spread = _at_macs(ranged, macs.mean(1))
            rows += [
                Claim(f"Fixed({target}): usage", "share", own.at("usage", target)),
                Claim(
                    f"Fixed({target}) is more accurate than ranged at its mean MACs",
                    "points",
                    100 * (own.at("top1", target) - top1),
                    above=0.0,
                ),
                Claim(
                    f"Fixed({target}): variance of the MACs over images",
                    "10^-4 of the largest cost, squared",
                    1e4 * _squares(macs) / full**2,
                ),
                Claim(
                    f"Fixed({target}) has another variance than ranged (difference)",
                    "10^-4 of the largest cost, squared",
                    1e4 * (_squares(macs) - spread) / full**2,
                ),
            ]
        return rows

    return Experiment("URNet(Fixed) against ranged at equal mean MACs", arms, claims)


def _squares(values: Floats) -> Floats:
    """Squared deviations from each seed's mean, so that their mean is the variance."""
    deviations: Floats = np.square(values - values.mean(1, keepdims=True))
    return deviations


def _at_macs(found: Found, wanted: Floats) -> tuple[Floats, Floats]:
    """Hits and squared deviations of MACs, (seeds, images), at each seed's wanted mean MACs.

    Between the two budgets whose mean MACs enclose it, in proportion.
    """
    top1, squares = [], []
    for seed, target in enumerate(wanted):
        means = found.values["macs"][seed].mean(1)
        order = np.argsort(means, kind="stable")
        place = float(np.interp(target, means[order], np.arange(len(order))))
        low, high = order[int(np.floor(place))], order[int(np.ceil(place))]
        share = place - np.floor(place)
        hits = found.values["top1"][seed]
        spread = _squares(found.values["macs"][seed])
        top1.append((1 - share) * hits[low] + share * hits[high])
        squares.append((1 - share) * spread[low] + share * spread[high])
    return np.stack(top1), np.stack(squares)


def corruption(scale: str) -> Experiment:
    """Whether images under noise use more blocks than the same images without."""
    arms = {}
    for words, place in {"small": (("digits", DIGITS), ("hard", HARD)), "full": (("", CIFAR10),)}[
        scale
    ]:
        start = None if place is DIGITS else place.name(BASE)
        for images in ("clean", "noisy"):
            arms[f"{images} {words}".strip()] = Arm(
                place.name("urnet"),
                start,
                budgets=TENTHS if place is DIGITS else (0.5,),
                images=images,
            )

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for name in found:
            kind, _, words = name.partition(" ")
            if kind == "noisy":
                continue
            clean = found[name].at("usage", 0.5)
            noisy = found[f"noisy {words}".strip()].at("usage", 0.5)
            half = np.where(np.arange(clean.shape[1]) % 2 == 0, clean, noisy)
            where = f" ({words})" if words else ""
            rows += [
                Claim(f"usage of clean images at S = 0.5{where}", "share", clean),
                Claim(f"usage of noisy images{where}", "share", noisy),
                Claim(f"noisy images use more blocks{where}", "share", noisy - clean, above=0.0),
                Claim(
                    f"variance of usage, half of the images noisy{where}", "share^2", _squares(half)
                ),
            ]
        return rows

    return Experiment("per-image usage on clean and noisy images at S = 0.5", arms, claims)


def betas(scale: str) -> Experiment:
    """The weight of the scale loss: how close usage keeps to S, and what it costs (figure 5)."""
    place = {"small": HARD, "full": CIFAR10}[scale]
    words = ("beta1", "beta2", "beta4", "beta8")
    arms = {word: Arm(place.name(word), place.name(BASE), budgets=FIFTHS) for word in words}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for word, arm in found.items():
            for budget in FIFTHS:
                error = _error(arm.at("usage", budget), budget)
                rows.append(Claim(f"{word}: tracking error at S = {budget:g}", "share", error))
                top1 = 100 * arm.at("top1", budget)
                rows.append(Claim(f"{word}: top-1 at S = {budget:g}", "points", top1))
        return rows

    return Experiment("the weight of the scale loss", arms, claims)


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {
    "urnet_budgets": budgets,
    "urnet_baselines": baselines,
    "urnet_fixed": fixed,
    "urnet_corruption": corruption,
    "urnet_betas": betas,
}
"""Name -> experiment at a scale, `small` or `full`."""
