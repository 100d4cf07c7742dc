"""The experiments of resizable networks: what their paper claims, in small.

Each is a function Scale -> Experiment, as those of `benchmarks/urnet.py`. The paper's figures are
those of its tables 1, 4 and 5, of ResNet-50 on ImageNet with 4 stages. There what is shared is
trained for twice as many steps as individual networks; here for as many, but where it is said.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np

from benchmarks.arm import Arm, Floats, Found
from benchmarks.claims import Claim, difference
from benchmarks.resizable_arms import FINETUNED, RESIZABLE, SHOWN, TRAININGS
from benchmarks.urnet import Experiment
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet

POINTS = {name: str(point) for name, point in SHOWN.items()}
FULLEST = POINTS["fullest"]
ALL = tuple(str(point) for point in RESIZABLE.subnets)
MEAN = f"mean of all {len(ALL)}"
PLACES = {"cheapest": (POINTS["cheapest"],), "fullest": (FULLEST,), MEAN: ALL}
# Top-1 of a sub-network less that of a network of its own. The paper prints what the points between
# the ends cost, not which they are.
GAINS = {"fullest": 77.1 - 76.4, "cheapest": 72.3 - 71.6}

# Of table 4, at 2.8 of 4.1 G MACs: the best sub-network after finetuning and before.
FINETUNING_GAIN = 77.4 - 76.6
# Of table 5, top-1 by the name of the training.
SWITCHED = {"aug": 78.8, "aug_no_banks": 76.9, "fullest": 76.4}


def sharing(scale: str) -> Experiment:
    """Sub-networks of one network against networks of their own, at equal MACs."""
    called = {"fair": "sub-network", "fair_twice": "sub-network, twice the steps"}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for name, point in POINTS.items():
            cost, full = (found["fair"].of("macs", of) for of in (point, FULLEST))
            own, shared, twice = (top1(found[of], point) for of in (name, *called))
            rows += [
                Claim(f"{name}, {point}: MACs, of the fullest's", "share", cost / full),
                *measured(name, ("network of its own", *called.values()), (own, shared, twice)),
                Claim(f"{name}: sub-network less own", "points", difference(shared, own)),
                Claim(
                    f"{name}: sub-network, twice the steps, less own > 0",
                    "points",
                    difference(twice, own),
                    paper=GAINS.get(name),
                    above=0.0,
                ),
            ]
        return rows

    arms = {name: arm(scale, name) for name in called}
    arms |= {name: arm(scale, name, (point,)) for name, point in POINTS.items()}
    about = "sub-networks of one network against individual ones"
    return Experiment(about, arms, claims)


def sampling(scale: str) -> Experiment:
    """Every scale of every stage once in a step, against each drawn for itself."""
    called = {"fair": "fair sampling", "independent": "naive sampling"}
    return compared(scale, "fair sampling against naive", called, {MEAN})


def scale_aware(scale: str) -> Experiment:
    """BN layers for each scale against one set for all."""
    called = {"fair": "BN of each scale", "shared_bn": "shared BN"}
    return compared(scale, "BN of each scale against shared BN", called, set(PLACES))


def compared(
    scale: str, about: str, called: Mapping[str, str], claimed: Collection[str]
) -> Experiment:
    """Two networks at the ends of their range and over all of it.

    Args:
      scale: of the experiment.
      about: one line.
      called: the two arms, and what they are called in the report.
      claimed: of `PLACES`, where the first is said to be better.
    """

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for place, points in PLACES.items():
            both = [top1(found[name], *points) for name in called]
            rows += [
                *measured(place, called.values(), both),
                Claim(
                    f"{place}: the first less the second" + " > 0" * (place in claimed),
                    "points",
                    difference(*both),
                    above=0.0 if place in claimed else None,
                ),
            ]
        return rows

    return Experiment(about, {name: arm(scale, name) for name in called}, claims)


def input_only(scale: str) -> Experiment:
    """Every stage's map resized, against the image alone, to the same sizes."""

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        rows = []
        for s in RESIZABLE.scales:
            maps, image = (
                str(Subnet("resolution", (s,) * stages))
                for stages in (len(RESIZABLE.subnets.dims), 1)
            )
            both = [top1(found["fair"], maps), top1(found["input_only"], image)]
            costs = found["fair"].of("macs", maps), found["input_only"].of("macs", image)
            rows += [
                *measured(f"scale {s:g}", ("maps resized", "image resized"), both),
                Claim(f"scale {s:g}: the first less the second", "points", difference(*both)),
                Claim(
                    f"scale {s:g}: MACs of the first less those of the second, of the latter",
                    "share",
                    difference(*costs) / costs[1],
                ),
            ]
        return rows

    arms = {name: arm(scale, name) for name in ("fair", "input_only")}
    return Experiment("maps resized stage by stage against the image alone", arms, claims)


def plain(scale: str) -> Experiment:
    """A network trained at the fullest point alone, run elsewhere: is it naturally resizable?"""
    called = {
        "fair": "resizable",
        "borrowed": "plain, the fullest's BN",
        "recalibrated": "plain, recalibrated",
    }
    elsewhere = {
        **{name: (point,) for name, point in POINTS.items() if point != FULLEST},
        f"mean of the other {len(ALL) - 1}": tuple(point for point in ALL if point != FULLEST),
    }

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        at_home = top1(found["borrowed"], FULLEST)
        rows = [
            Claim("fullest: top-1, resizable", "points", top1(found["fair"], FULLEST)),
            Claim("fullest: top-1, plain", "points", at_home),
        ]
        for place, points in elsewhere.items():
            resizable, borrowed, recalibrated = (top1(found[name], *points) for name in called)
            rows += [
                *measured(place, called.values(), (resizable, borrowed, recalibrated)),
                Claim(
                    f"{place}: the second at the fullest less here",
                    "points",
                    difference(at_home, borrowed),
                ),
                Claim(
                    f"{place}: the first less the second > 0",
                    "points",
                    difference(resizable, borrowed),
                    above=0.0,
                ),
                Claim(
                    f"{place}: the first less the third",
                    "points",
                    difference(resizable, recalibrated),
                ),
            ]
        return rows

    borrowed = dataclasses.replace(arm(scale, "fullest", ALL), bank_of=FULLEST)
    arms = {
        "fair": arm(scale, "fair"),
        "borrowed": borrowed,
        "recalibrated": dataclasses.replace(borrowed, recalibrated=True),
    }
    return Experiment("a plain network at other scales", arms, claims)


def finetuning(scale: str) -> Experiment:
    """One point of a trained network finetuned alone: what it gains, what all others lose."""
    point = POINTS[FINETUNED]
    others = tuple(other for other in ALL if other != point)
    called = {"before": "before", "after": "after"}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        before = found["before"]
        cost, full = (before.of("macs", of) for of in (point, FULLEST))
        own = top1(found["own"], point)
        here, elsewhere = (
            [top1(found[name], *points) for name in called] for points in ((point,), others)
        )
        place = f"mean of the other {len(others)}"
        return [
            Claim(f"{FINETUNED}, {point}: MACs, of the fullest's", "share", cost / full),
            *measured(FINETUNED, called.values(), here),
            *measured(FINETUNED, ["network of its own"], [own]),
            Claim(
                f"{FINETUNED}: after less before > 0",
                "points",
                difference(here[1], here[0]),
                paper=FINETUNING_GAIN,
                above=0.0,
            ),
            Claim(f"{FINETUNED}: after less own", "points", difference(here[1], own)),
            *measured(place, called.values(), elsewhere),
            Claim(
                f"{place}: before less after > 0",
                "points",
                difference(elsewhere[0], elsewhere[1]),
                above=0.0,
            ),
        ]

    start = arm(scale, "fair_twice")
    arms = {
        "before": start,
        "after": dataclasses.replace(arm(scale, "nas"), start=start.config),
        "own": arm(scale, FINETUNED, (point,)),
    }
    return Experiment("one point of a trained network finetuned alone", arms, claims)


def switching(scale: str) -> Experiment:
    """All points, then the fullest alone, against the fullest alone from the start."""
    called = {"aug": "switched", "aug_no_banks": "switched, shared BN", "fullest": "plain"}
    pairs = (("aug", "fullest"), ("aug", "aug_no_banks"), ("aug_no_banks", "fullest"))

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        own = {name: top1(found[name], FULLEST) for name in called}
        return [
            *(
                Claim(f"fullest: top-1, {told}", "points", own[name], paper=SWITCHED[name])
                for name, told in called.items()
            ),
            *(
                Claim(
                    f"{called[one]} less {called[other]} > 0",
                    "points",
                    difference(own[one], own[other]),
                    paper=SWITCHED[one] - SWITCHED[other],
                    above=0.0,
                )
                for one, other in pairs
            ),
        ]

    arms = {name: arm(scale, name, (FULLEST,)) for name in called}
    return Experiment("switching to the fullest against a plain network", arms, claims)


def arm(scale: str, name: str, points: tuple[str, ...] = ()) -> Arm:
    """A network at some operating points, or at all that it has.

    Raises:
      UsageError: another scale than `small`.
    """
    if scale != "small":
        raise UsageError(f"the experiments of resizable networks have no scale {scale!r}", "small")
    own = tuple(str(point) for point in TRAININGS[name].network.subnets)
    return Arm(f"benchmarks/resizable_arms.py:{name}", subnets=points or own)


def top1(found: Found, *points: str) -> Floats:
    """(seeds, images), in percent: the mean over operating points."""
    mean: Floats = np.mean([found.of("top1", point) for point in points], axis=0)
    return 100 * mean


def measured(place: str, names: Collection[str], values: Collection[Floats]) -> list[Claim]:
    """What each of some arms gives at a place."""
    pairs = zip(names, values, strict=True)
    return [Claim(f"{place}: top-1, {name}", "points", own) for name, own in pairs]


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {
    "resizable_sharing": sharing,
    "resizable_fair": sampling,
    "resizable_banks": scale_aware,
    "resizable_plain": plain,
    "resizable_input": input_only,
    "resizable_nas": finetuning,
    "resizable_aug": switching,
}
"""Name -> experiment at scale `small`."""
