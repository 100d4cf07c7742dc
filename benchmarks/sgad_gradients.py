"""SGAD's figure 4 as an experiment: the blocks it keeps beside a plain network's gradients."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.arm import Floats, Found
from benchmarks.arms import read
from benchmarks.claims import Claim
from benchmarks.sgad import PLACES, arm
from benchmarks.urnet import Experiment
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.ranks import within


def gradients(scale: str) -> Experiment:
    """Blocks that are kept beside the gradients of the same blocks of the plain network (figure 4).

    A rank correlation is a mean over blocks, so blocks stand here where images do elsewhere.
    """
    arms = {name: arm(scale, name) for name in ("plain", "mf", "lf")}

    def claims(found: Mapping[str, Found]) -> list[Claim]:
        stages = blocks_by_stage(scale)
        size = found["plain"].at("gradient")
        stage = np.repeat(np.arange(len(stages)), [len(names) for names in stages])
        falls = (np.diff(size) < 0)[:, np.diff(stage) == 0].astype(float)
        text = "plain: a block's gradients are smaller than those of the one before it in its stage"
        rows = [Claim(f"{text}, of all such pairs > 0.5", "share", falls, above=0.5)]
        for name in ("mf", "lf"):
            kept = found[name].values["kept"][:, 0]
            gated = kept.shape[1]  # the last block always runs
            unused = (kept == 0).astype(float)
            rows.append(Claim(f"{name}: blocks that no image keeps", "share", unused))
            for how, place in (("", 0 * stage[:gated]), (" within stages", stage[:gated])):
                rows.append(_order(name, how, size[:, :gated], kept, place))
        return rows

    return Experiment("blocks kept beside gradients of the plain network's", arms, claims)


def blocks_by_stage(scale: str) -> tuple[tuple[str, ...], ...]:
    """The names of the blocks of each stage."""
    experiment = read(PLACES[scale].name("mf"), 0)
    costs = CostModel(experiment.network, experiment.data.image_shape)
    return costs.blocks(experiment.network.subnets.fullest)


def _order(name: str, how: str, size: Floats, kept: Floats, groups: npt.NDArray[np.int64]) -> Claim:
    order = in_order(size, kept, groups)
    if order is None:
        # No number is better than one over the other seeds.
        return Claim(f"{name}: blocks kept have no order{how} by some seed", "share", kept)
    text = f"{name}: blocks kept and gradients, rank correlation{how} > 0"
    return Claim(text, "correlation", order, above=0.0)


def in_order(x: Floats, y: Floats, groups: npt.NDArray[np.int64]) -> Floats | None:
    """Values (seeds, blocks) whose mean is the rank correlation of x and y, mean of the seeds.

    Each block's part in it, to first order (the delta method), as in `std`.

    Args:
      x: (seeds, blocks).
      y: (seeds, blocks).
      groups: (blocks,); what differs between groups does not count, see `rank_correlation`.

    Returns:
      None where by some seed all x, or all y, of each group are equal.
    """
    ranks = (np.stack([within(rankdata(of), groups) for of in both]) for both in (x, y))
    left, right = ranks
    sizes = [np.sqrt(np.square(of).mean(1, keepdims=True)) for of in (left, right)]
    if not all(size.all() for size in sizes):
        return None
    left, right = left / sizes[0], right / sizes[1]
    rho = (left * right).mean(1, keepdims=True)
    order: Floats = left * right - rho * (np.square(left) + np.square(right)) / 2 + rho
    return order


EXPERIMENTS: dict[str, Callable[[str], Experiment]] = {"sgad_gradients": gradients}
"""Name -> experiment at a scale, `small` or `full`."""
