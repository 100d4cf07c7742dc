"""The experiment of images that choose their operating points, in small; see `resizable.py`.

The paper draws it 0 to .5 points above its table of sub-networks (figure 2d) and does not say
whether what it takes to choose is in its MACs. Here it is told with and without.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.arm import Floats, Found
from benchmarks.claims import Claim, difference
from benchmarks.resizable import FULLEST, arm, top1
from benchmarks.resizable_arms import CANDIDATES
from benchmarks.urnet import Experiment
from jax_elastic.elastic.resizable.adapt import ADAPT

MOST = f"{ADAPT}:{CANDIDATES}"


def choosing(scale: str) -> Experiment:
    """Images that choose among candidates against these alone, at equal mean MACs.

    The candidates of each seed are its own: of the front of its network on 30 validation images,
    as many as the shortest front has. The network is right about all training images at all of
    them, so what is learned from there is by which of them it is a little surer, of images that it
    knows by heart: targets are more optimistic, and tell less of new images, the better it fits.

    In throwaway trials by two seeds nothing was gained with the probe in other epochs (10, 100), at
    a learning rate of .005 or with 32 channels either; with fewer epochs or more channels less was
    lost. What is reported is none of them by its result: the epochs are those in which the loss on
    training images fell, the channels were given beforehand.
    """

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        adapt = found["adapt"]
        right, costs = (candidates(found, measure) for measure in ("top1", "macs"))
        right = 100 * right
        full = found["before"].of("macs", FULLEST)
        rows = []
        for place in range(CANDIDATES):
            name = f"candidate {place + 1}"
            named = ", ".join(targets.candidates[place] for targets in adapt.taught)
            rows += [
                Claim(f"{name}, {named}: MACs, of the fullest's", "share", costs[:, place] / full),
                Claim(f"{name}: top-1", "points", right[:, place]),
                Claim(f"{name}: best for training images", "share", best(adapt, place)),
                Claim(f"{name}: chosen by test images", "share", chose(adapt, place)),
            ]
        rows += [
            Claim("training images of which a cheaper one is surer", "share", surer(adapt)),
            Claim(
                "test images that a cheaper one alone tells right",
                "share",
                (right[:, :-1].max(1) > right[:, -1]).astype(float),
            ),
            Claim("top-1, where some candidate is right", "points", right.max(1)),
        ]
        for allowed in range(2, CANDIDATES + 1):
            point = f"{ADAPT}:{allowed}"
            choice = adapt.of("choice", point).astype(int)[:, None]
            chosen = np.take_along_axis(costs, choice, 1)[:, 0]
            own = top1(adapt, point)
            rows.append(Claim(f"{point}: top-1", "points", own))
            for cost, told in (
                (adapt.of("macs", point), "probe included"),
                (chosen, "without the probe"),
            ):
                static = mixed(right, costs, cost.mean(1))
                rows += [
                    Claim(f"{point}: MACs {told}, of the fullest's", "share", cost / full),
                    Claim(
                        f"{point}: chosen less static > 0, {told}",
                        "points",
                        difference(own, static),
                        above=0.0,
                    ),
                ]
        return rows

    start = arm(scale, "fair_twice")
    adapt = dataclasses.replace(arm(scale, "adapt"), start=start.config, candidates=CANDIDATES)
    arms = {"before": start, "adapt": adapt}
    return Experiment("images that choose their points against points alone", arms, claims)


def candidates(found: Mapping[str, Found], measure: str) -> Floats:
    """(seeds, C, images) of a measure: the candidates of each seed alone, run for every image."""
    before, taught = found["before"], found["adapt"].taught
    return np.stack(
        [
            np.stack([before.of(measure, name)[seed] for name in targets.candidates])
            for seed, targets in enumerate(taught)
        ]
    )


def mixed(right: Floats, costs: Floats, macs: Floats) -> Floats:
    """What the candidates give at given mean MACs, where none is chosen for an image.

    Each image is given to the two between whose costs these are, to each in the share by which
    they are met; beyond the dearest candidate there is but that.

    Args:
      right: (S, C, N), of each candidate, cheapest first.
      costs: (S, C, N), of which each candidate has one.
      macs: (S,).

    Returns:
      (S, N), the mean over both.
    """
    found = []
    for one, cost, wanted in zip(right, costs.mean(2), macs, strict=True):
        place = np.interp(wanted, cost, np.arange(len(cost)))
        low = min(int(place), len(cost) - 2)
        found.append(one[low] + (place - low) * (one[low + 1] - one[low]))
    return np.stack(found)


def chose(adapt: Found, place: int) -> Floats:
    """(seeds, images), 1 where an image chooses a candidate among all."""
    share: Floats = (adapt.of("choice", MOST) == place).astype(float)
    return share


def best(adapt: Found, place: int) -> Floats:
    """(seeds, training images), 1 where a candidate is the target."""
    share: Floats = np.stack([own.targets == place for own in adapt.taught]).astype(float)
    return share


def surer(adapt: Found) -> Floats:
    """(seeds, training images), 1 where a cheaper one than the last is surer of the class."""
    given = np.stack([targets.probability for targets in adapt.taught])
    share: Floats = (given[..., :-1].max(-1) > given[..., -1]).astype(float)
    return share


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {"resizable_adapt": choosing}
"""Name -> experiment at scale `small`."""
