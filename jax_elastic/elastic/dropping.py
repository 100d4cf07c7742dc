"""What networks share that drop residual blocks per image, whatever their gates go by."""

import abc
import dataclasses
from typing import NamedTuple

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import (
    Array,
    BNMode,
    Prediction,
    PyTree,
    Segment,
    Variables,
)
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.points import BLOCKS, check_point, with_fixed_blocks
from jax_elastic.elastic.runs import predict_by_segments
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet


class GatedForward(NamedTuple):
    """What a forward with N gates gives.

    Attributes:
      logits: (B, classes).
      gates: (N, B), what each gated block was multiplied by, in [0, 1]. Blocks come first, because
        the network scans over them.
      open: (N, B), logits of the decision to run each of them, open iff >= 0.
      moments: of all BN layers.
      weights: (N, B), what blocks that run are multiplied by; None where they are taken whole.
    """

    logits: Array
    gates: Array
    open: Array
    moments: PyTree
    weights: Array | None = None


@dataclasses.dataclass(frozen=True)
class Dropping(Plain, abc.ABC):
    """A ResNet whose residual blocks are gated, all or some of them.

    Attributes:
      backbone: the architecture.
    """

    backbone: ResNet = dataclasses.field(default_factory=ResNet)

    @property
    def num_gates(self) -> int:
        """The number of gated blocks, N: all of them."""
        return self.backbone.num_blocks

    @abc.abstractmethod
    def test_forward(
        self,
        variables: Variables,
        images: Array,
        budget: Array | float | None,
        key: Array | None,
        bn: BNMode,
    ) -> GatedForward:
        """The masked forward under the gates of test; arguments as of `predict`."""

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`; the points of `jax_elastic.elastic.points` are run by their segments."""
        if self.random and key is None:
            raise UsageError("the gates of this network are random", "keys (B,), one per image")
        full = None
        if any(subnet in self.subnets for subnet in subnets):
            full = self.prediction(self.test_forward(variables, images, budget, key, "running"))
        return tuple(
            full
            if full is not None and subnet in self.subnets
            else predict_by_segments(self, variables, images, subnet, budget, key)
            for subnet in subnets
        )

    def prediction(self, found: GatedForward) -> Prediction:
        """What a forward at test says; every gate is 0 or 1."""
        return Prediction((found.logits,), found.open.T)

    def moments(
        self,
        variables: Variables,
        images: Array,
        subnet: Subnet,
        budget: Array | float | None,
        key: Array | None = None,
    ) -> PyTree:
        """See `Family`: those under the gates of test, which are not those of training.

        Raises:
          UsageError: the point is one of `jax_elastic.elastic.points`.
        """
        if subnet not in self.subnets:
            full = self.subnets.fullest
            raise UsageError(
                f"operating point {subnet} has no BN statistics of its own",
                f"it reads those of {full}",
                f"recalibrate {full}" + (", at the budget that is meant" if self.budgets else ""),
            )
        return self.test_forward(variables, images, budget, key, "batch").moments

    def check(self, subnet: Subnet) -> None:
        """See `Family`: `full`, and the points of `jax_elastic.elastic.points`."""
        check_point(subnet, self.subnets, self.num_gates)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """What comes before the first block, the blocks and the head."""
        stem, *rest = super().segments(subnet)
        found = (*self.before_blocks(stem), *rest)
        return with_fixed_blocks(found, subnet) if subnet.axis == BLOCKS else found

    def before_blocks(self, stem: Segment) -> tuple[Segment, ...]:
        """The stem alone, where nothing is decided before the blocks."""
        return (stem,)
