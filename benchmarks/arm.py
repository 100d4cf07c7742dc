"""An arm of an experiment, one network as it is asked, and what it gave."""

import dataclasses

import numpy as np
import numpy.typing as npt

from jax_elastic.data.targets import Targets

Floats = npt.NDArray[np.float64]
Values = dict[str, Floats]
MEASURES = ("top1", "usage", "macs", "loss")
OTHERS = ("choice", "kept", "expected", "decided", "gradient")
"""The measures that there are besides where images choose between candidates, where blocks open per
image, where something is expected of them (see `guidance`), and where gradients were measured."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of an experiment.

    Attributes:
      config: as `--config` takes it.
      start: the config of the run it starts from, or None.
      trained_as: the config of the run that trains its variables, or None for its own: the
        network of `config` is then only evaluated.
      budgets: asked of it; empty where it takes none.
      images: `clean`, or a name in `CORRUPTIONS`.
      subnets: operating points as text; empty for those that the network shows.
      bank_of: the one whose BN layers stand for those that were never trained, which is unsafe;
        empty: none does. See `borrow_banks`.
      recalibrated: whether the BN statistics of each operating point are estimated anew, from the
        training images.
      candidates: between how many operating points of the run it starts from its images choose;
        see `teach`. 0: nothing is chosen.
      settings: keys of the config that differ, each as `key=value`.
      split: whose images are evaluated.

    Raises:
      ValueError: at construction, where there are candidates and no run to start from.
    """

    config: str
    start: str | None = None
    trained_as: str | None = None
    budgets: tuple[float, ...] = ()
    images: str = "clean"
    subnets: tuple[str, ...] = ()
    bank_of: str = ""
    recalibrated: bool = False
    candidates: int = 0
    settings: tuple[str, ...] = ()
    split: str = "test"

    def __post_init__(self) -> None:
        if self.candidates and self.start is None:
            raise ValueError(f"{self.config} starts from no run whose points could be candidates")


@dataclasses.dataclass(frozen=True)
class Found:
    """What an arm gave on the images of its split.

    Attributes:
      budgets: asked; (None,) where it takes none.
      values: measure -> (seeds, budgets, images): `top1`; `usage`, share of the blocks that
        opened (1 where nothing can be skipped); `macs`. Means over the draws where gates are
        random; `loss`, the cross-entropy in nats. Where the arm has several operating points,
        these stand in place of the budgets. Where images choose also `choice`, an index into the
        candidates; where blocks open per image `kept`, (seeds, budgets, blocks), the share of the
        images that open each; and what `guidance` tells. Where `config.runtime.gradients` is set
        `gradient`, (seeds, 1, blocks), the mean |dL/dW| of each block over training.
      subnets: those of the arm.
      taught: for each seed what its images were taught to choose, and between which candidates,
        which each seed has of its own; empty where nothing is chosen.
    """

    budgets: tuple[float | None, ...]
    values: Values
    subnets: tuple[str, ...] = ()
    taught: tuple[Targets, ...] = ()

    def at(self, measure: str, budget: float | None = None) -> Floats:
        """(seeds, images) of a measure at a budget."""
        return self.values[measure][:, self.budgets.index(budget)]

    def of(self, measure: str, subnet: str) -> Floats:
        """(seeds, images) of a measure at one of the arm's operating points."""
        return self.values[measure][:, self.subnets.index(subnet)]
