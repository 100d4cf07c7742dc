"""URNet's experiments: what its paper claims, and what this project promises of its demo.

Each is a function Scale -> Experiment; figures of the paper are those of its table 1 (CIFAR-10,
ResNet-110), in percent and as shares of 54 blocks.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.arm import Arm, Floats, Found
from benchmarks.claims import Claim, difference, std


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
GRID = tuple(round(0.05 * i, 2) for i in range(1, 21))
AT = 0.4  # the budget of the comparison
# The run of this variant is the base phase alone, from which all others start.
BASE = "rand_val"


def budgets(scale: str) -> Experiment:
    """The bars of the demo: tracking, monotonicity, range, accuracy at the highest usage."""
    place = {"small": DIGITS, "full": CIFAR10}[scale]
    arms = {"urnet": Arm(place.name("urnet"), budgets=TENTHS), "base": Arm(place.name("base"))}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        urnet = found["urnet"]
        usage = {budget: urnet.at("usage", budget) for budget in TENTHS}
        steps = [difference(usage[b], usage[a]) for a, b in itertools.pairwise(TENTHS)]
        return [
            *(_tracking(budget, usage[budget]) for budget in TENTHS),
            Claim(
                "usage never falls with S: its least step",
                "share",
                min(steps, key=lambda step: float(step.mean())),
                above=-1e-9,
                by_mean=True,
            ),
            Claim(
                "range of usage >= 0.55",
                "share",
                difference(usage[TENTHS[-1]], usage[TENTHS[0]]),
                above=0.55,
                by_mean=True,
            ),
            # The highest usage is that of the largest budget, because usage never falls.
            Claim(
                "top-1 at the highest usage, less the plain network's: no loss of 2 points",
                "points",
                100 * difference(urnet.at("top1", TENTHS[-1]), found["base"].at("top1")),
                paper=0.4,  # 93.6 less 93.2
                above=-2.0,
            ),
        ]

    return Experiment("the demo's bars, over seeds", arms, claims)


# The ends of the range are harder to keep than its middle; what no bar was set for is measured.
BARS = {0.2: 0.1, **{round(0.1 * i, 1): 0.05 for i in range(3, 9)}, 0.9: 0.1}


def _tracking(budget: float, usage: Floats) -> Claim:
    """|mean usage - S|, on average over the seeds."""
    error = usage - budget
    bar = BARS.get(budget)
    text = f"tracking error at S = {budget:g}" + ("" if bar is None else f" <= {bar:g}")
    # Turned so that each seed's error is positive: those of two seeds must not cancel.
    turned = error * np.sign(error.mean(1, keepdims=True))
    return Claim(text, "share", turned, below=bar, by_mean=True)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A row of the paper's table 1 at S = 0.4, and what the paper claims against it.

    Attributes:
      top1: in percent, or None.
      blocks: of 54.
      less_accurate: whether URNet is said to be more accurate.
      more_blocks: whether URNet is said to use fewer blocks at that.
    """

    top1: float | None
    blocks: float
    less_accurate: bool = True
    more_blocks: bool = False


URNET = Baseline(93.3, 20.86)
BASELINES = {
    "rand_val": Baseline(15.4, 21.65),
    "rand_train": Baseline(91.0, 21.65),
    "external": Baseline(92.6, 32.30, more_blocks=True),
    "sg": Baseline(21.4, 14.05),
    "bg": Baseline(93.1, 28.60, more_blocks=True),
    "ba": Baseline(None, 54.0, less_accurate=False),
    "ba_rand": Baseline(91.1, 21.54),
}


def baselines(scale: str) -> Experiment:
    """URNet at S = 0.4 against what its paper's table 1 compares it with."""
    place = {"small": HARD, "full": CIFAR10}[scale]
    start = place.name(BASE)
    arms = {
        name: Arm(place.name(name), None if name == BASE else start, budgets=FIFTHS)
        for name in ("urnet", *BASELINES)
    }
    arms["ba"] = dataclasses.replace(arms["ba"], trained_as=place.name("sg"))

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        top1 = {name: 100 * arm.at("top1", AT) for name, arm in found.items()}
        usage = {name: arm.at("usage", AT) for name, arm in found.items()}
        rows = []
        for name, paper in {"urnet": URNET, **BASELINES}.items():
            rows.append(Claim(f"{name}: top-1", "points", top1[name], paper.top1))
            rows.append(Claim(f"{name}: blocks used", "share", usage[name], paper.blocks / 54))
        for name, paper in BASELINES.items():
            more = difference(top1["urnet"], top1[name])
            fewer = difference(usage["urnet"], usage[name])
            rows += [
                Claim(
                    f"top-1 of urnet less that of {name}" + (" > 0" * paper.less_accurate),
                    "points",
                    more,
                    None if paper.top1 is None or URNET.top1 is None else URNET.top1 - paper.top1,
                    above=0.0 if paper.less_accurate else None,
                ),
                Claim(
                    f"blocks of urnet less those of {name}" + (" < 0" * paper.more_blocks),
                    "share",
                    fewer,
                    (URNET.blocks - paper.blocks) / 54,
                    below=0.0 if paper.more_blocks else None,
                ),
            ]
        return rows

    return Experiment("URNet asked for S = 0.4, against its baselines asked for it", arms, claims)


def fixed(scale: str) -> Experiment:
    """URNet(Fixed) against the ranged URNet at equal mean MACs (figure 8)."""
    place = {"small": HARD, "full": CIFAR10}[scale]
    start = place.name(BASE)
    targets = (0.5, 0.6, 0.7)
    arms = {f"fixed{t}": Arm(place.name(f"fixed{t}"), start, budgets=(t,)) for t in targets}
    arms["urnet"] = Arm(place.name("urnet"), start, budgets=GRID)

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        ranged = found["urnet"]
        rows = []
        for target in targets:
            own = found[f"fixed{target}"]
            rows += _fixed_claims(target, own, ranged)
        return rows

    return Experiment("URNet(Fixed) against ranged at equal mean MACs", arms, claims)


def _fixed_claims(target: float, own: Found, ranged: Found) -> list[Claim]:
    name = f"Fixed({target})"
    macs, full = own.at("macs", target), float(ranged.values["macs"].max())
    means = ranged.values["macs"].mean(2)
    reached = (means.min(1) <= macs.mean(1)) & (macs.mean(1) <= means.max(1))
    rows = [
        Claim(f"{name}: usage", "share", own.at("usage", target)),
        Claim(f"{name}: std of the cost over images", "share", std(macs) / full),
    ]
    if not reached.all():
        # No number is better than one of unequal costs.
        return [*rows, Claim(f"{name}: ranged does not reach its mean MACs", "share", macs / full)]
    top1, spread = at_macs(ranged, macs.mean(1))
    return [
        *rows,
        Claim(
            f"{name}: top-1, less that of ranged at equal mean MACs, > 0",
            "points",
            100 * difference(own.at("top1", target), top1),
            above=0.0,
        ),
        Claim(
            f"{name}: std of the cost, less that of ranged",
            "share",
            difference(std(macs), spread) / full,
        ),
    ]


def at_macs(found: Found, wanted: Floats) -> tuple[Floats, Floats]:
    """Hits, and values whose mean is the std of MACs, at each seed's wanted mean MACs.

    Between the two budgets whose mean MACs enclose it, in proportion.

    Args:
      found: S seeds, several budgets, N images.
      wanted: (S,), none outside what the budgets reach.

    Returns:
      Two arrays (S, N).
    """
    top1, spread = [], []
    for seed, target in enumerate(wanted):
        macs, hits = found.values["macs"][seed], found.values["top1"][seed]
        order = np.argsort(macs.mean(1), kind="stable")
        place = float(np.interp(target, macs.mean(1)[order], np.arange(len(order))))
        low, high = order[int(np.floor(place))], order[int(np.ceil(place))]
        share = place - np.floor(place)
        parts = std(macs)  # of each budget
        top1.append((1 - share) * hits[low] + share * hits[high])
        spread.append((1 - share) * parts[low] + share * parts[high])
    return np.stack(top1), np.stack(spread)


def corruption(scale: str) -> Experiment:
    """Whether images under noise use more blocks than the same images without."""
    places = {"small": {"digits": DIGITS, "digits_hard": HARD}, "full": {"cifar10": CIFAR10}}[scale]
    arms = {
        f"{images} {data}": Arm(
            place.name("urnet"),
            None if place is DIGITS else place.name(BASE),
            budgets=(0.5,),
            images=images,
        )
        for data, place in places.items()
        for images in ("clean", "noisy")
    }

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for data in places:
            clean = found[f"clean {data}"].at("usage", 0.5)
            noisy = found[f"noisy {data}"].at("usage", 0.5)
            half = np.where(np.arange(clean.shape[1]) % 2 == 0, clean, noisy)
            rows += [
                Claim(f"{data}: usage of clean images at S = 0.5", "share", clean),
                Claim(f"{data}: usage of noisy images", "share", noisy),
                Claim(
                    f"{data}: noisy images use more blocks",
                    "share",
                    difference(noisy, clean),
                    above=0.0,
                ),
                Claim(f"{data}: std of usage, half of the images noisy", "share", std(half)),
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
                usage, top1 = arm.at("usage", budget), 100 * arm.at("top1", budget)
                rows.append(Claim(f"{word}: usage less S = {budget:g}", "share", usage - budget))
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
