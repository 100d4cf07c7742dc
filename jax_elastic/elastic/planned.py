"""Networks whose gates are decided before the first block: a plan, then blocks that follow it."""

import abc
import dataclasses

from jax_elastic.elastic.dropping import Dropping, GatedForward
from jax_elastic.elastic.family import Array, BNMode, Segment, Variables
from jax_elastic.elastic.gated import PLANNED_BLOCKS, PlannedBlockCode, TakePlanned
from jax_elastic.elastic.segments import Take


@dataclasses.dataclass(frozen=True)
class Planned(Dropping, abc.ABC):
    """A ResNet under a plan for its first N blocks; those after them always run.

    Beside what decides, its variables are those of the plain network.
    """

    @abc.abstractmethod
    def plan_segment(self) -> Segment:
        """What decides: a segment that adds ``plan``, gate logits (B, N), to the carry."""

    def planned_forward(
        self, variables: Variables, images: Array, gates: Array, opened: Array, bn: BNMode
    ) -> GatedForward:
        """The network under `gates` (N, B), which were decided by logits `opened` (N, B)."""
        module = self.backbone.module(PLANNED_BLOCKS[self.backbone.block])
        logits, _, moments = self.forward(module, variables, images, bn, gates)
        return GatedForward(logits, gates, opened, moments)

    def before_blocks(self, stem: Segment) -> tuple[Segment, ...]:
        """The plan, from the image, and the stem."""
        return (self.plan_segment(), stem)

    def block_segment(self, n: int) -> Segment:
        """See `Plain`; a block is gated by its column of the plan, if there is one."""
        if n >= self.num_gates:
            return super().block_segment(n)
        site = self.backbone.sites()[n]
        kind = PLANNED_BLOCKS[self.backbone.block]
        code = PlannedBlockCode(self.backbone.make_block_of(kind, site))
        return Segment(f"block{n + 1}", code, TakePlanned(Take(site.path, site.index), n), "gated")
