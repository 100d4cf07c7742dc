"""SGAD: a plan per image of the blocks to drop, guided by how sure a classifier is of it."""

import dataclasses
import math
from functools import partial
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_elastic import rng as random_streams
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.dropping import GatedForward
from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    BNMode,
    Draw,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.losses import masked_mean, masked_sum
from jax_elastic.elastic.plain import classification
from jax_elastic.elastic.planned import Planned
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.sgad.bmnet import BMNET, BMNet, BMNetCode, Noise, PlannedFromStem
from jax_elastic.elastic.sgad.guideline import Mapping, dropped_share, expected_drop, sureness
from jax_elastic.elastic.train_only import TRAIN_ONLY
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL

SGNET, P_MAX = "sgnet", "p_max"
Guideline = Literal["concave", "convex", "linear", "constant", "none"]
MOST = 0.99
"""p_max lies below 1: with all blocks but the last dropped there is nothing to learn."""


@dataclasses.dataclass(frozen=True)
class SGAD(Planned):
    """A ResNet in which BMNet decides, from the stem's output, on all blocks but the last.

    In training a small classifier of the image, SGNet, says how many blocks an image should drop.
    Nothing of it is needed afterwards: it lies under `train_only`.

    In phases of objective `guided` the noise before the gates grows from 0 to `noise`; in those of
    `finetuned` it stays there (docs/choices.md S3, S10).

    Attributes:
      p_max: the largest share of blocks that is expected to be dropped.
      guideline: how SGNet's certainty becomes the expected share: `concave`, `convex` or `linear`;
        `constant`, p_max for every image, and `none`, nothing is expected, do without SGNet.
      temperature: of SGNet's soft target where its certainty is measured; not of its loss.
      noise: standard deviation of the noise at the end of training; 0 is no noise.
      gate_bias: where the gates' logits start.
      weight_r: of the cross-entropy L_R.
      weight_b: of L_B, the distance from the expected share.
      weight_s: of SGNet's own cross-entropy L_S.
      wanted: mean share of blocks that are to run, towards which p_max is moved in training; 0
        leaves it as it is (docs/choices.md S9).
      wanted_rate: by how much, per step and unit of distance.
    """

    p_max: float = 0.16
    guideline: Guideline = "concave"
    temperature: float = 1.0
    noise: float = 2.0
    gate_bias: float = 2.0
    weight_r: float = 1.0
    weight_b: float = 1.0
    weight_s: float = 0.3
    wanted: float = 0.0
    wanted_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone.num_blocks < 2:
            raise UsageError("a network of one block has none to drop", "stage_sizes of 2 or more")
        if not 0 < self.p_max < 1:
            raise UsageError(f"p_max {self.p_max:g} is no share of blocks", "in (0, 1)")
        if not 0 <= self.wanted < 1:
            raise UsageError(f"wanted {self.wanted:g} is no share of blocks", "in [0, 1)")
        if self.wanted and self.guideline == "none":
            raise UsageError("wanted moves p_max, which guideline none does not read", "wanted=0")
        if not math.isfinite(self.gate_bias):
            raise UsageError(f"gate_bias {self.gate_bias:g} is not finite", "any finite number")
        if not 0 < self.temperature < math.inf:
            what = f"temperature {self.temperature:g} is not positive or not finite"
            raise UsageError(what, "a finite number above 0")
        for name in ("noise", "weight_r", "weight_b", "weight_s", "wanted_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                what = f"{name} {getattr(self, name):g} is negative or not finite"
                raise UsageError(what, "0 or a finite number above it")

    @property
    def objectives(self) -> tuple[str, ...]:
        """`guided` and `finetuned` (see above)."""
        return ("guided", "finetuned")

    @property
    def num_gates(self) -> int:
        """All blocks but the last, which always runs (SGAD section 3.2)."""
        return self.backbone.num_blocks - 1

    @property
    def bmnet(self) -> partial[BMNet]:
        """Makes BMNet: as wide as the stem."""
        net = self.backbone
        return partial(BMNet, net.width, self.num_gates, self.gate_bias, net.conv)

    @property
    def begins_anew(self) -> tuple[str, ...]:
        """See `BeginsAnew`: p_max, where it moves; each run moves it from where its config says."""
        return (f"stats/{TRAIN_ONLY}/{P_MAX}",) if self.wanted else ()

    @property
    def sgnet(self) -> ResNet | None:
        """The architecture of SGNet; None where nothing asks it (docs/choices.md S5)."""
        return None if self.guideline in ("constant", "none") else self.backbone.resnet8()

    def _init(self, key: Array, images: Array) -> Any:
        body_key, own_key = jax.random.split(key)
        module = PlannedFromStem(self.backbone, self.bmnet)
        fresh = module.init(body_key, images, "running")
        taught: dict[str, dict[str, Any]] = {"params": {}, "stats": {}}
        if self.sgnet is not None:
            soft = self.sgnet.module().init(own_key, images, "running")
            taught = {name: {SGNET: soft[name]} for name in taught}
        if self.wanted:
            taught["stats"][P_MAX] = jnp.float32(self.p_max)
        # No empty branch: what is not there has no place.
        own = {name: {TRAIN_ONLY: tree} if tree else {} for name, tree in taught.items()}
        return {name: {**fresh[name], **own[name]} for name in taught}

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """The only operating point, with the noise of this step: ``{"sigma": float32 ()}``."""
        del rng
        grown = 1.0 if when.objective == "finetuned" else when.phase_step / when.phase_steps
        return (Draw(FULL, values={"sigma": np.float32(self.noise * grown)}),)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """L = weight_r L_R + weight_b L_B + weight_s L_S.

        Sums: `ce` and `top1` of the network, `dropped` (share of the blocks that can be), `sigma`;
        where something is expected `expected` and `loss_b`, where SGNet is there `loss_s`; where
        p_max moves `p_max` and `ran`, the share of all blocks that is held against `wanted`.

        References:
          SGAD section 3.3; as far as its formulas are lost, docs/choices.md S1.
        """
        del objective
        images, mask = batch["image"], batch["mask"]
        sigma = draw.values["sigma"]
        noise = Noise(random_streams.keys_by_place(key, len(images)), sigma)
        found = self._forward(variables, images, bn, noise)
        moments = found.moments
        value, sums = classification(found.logits, batch)
        value = self.weight_r * value
        dropped = dropped_share(found.gates)
        sums["dropped"] = masked_sum(dropped, mask)
        sums["sigma"] = masked_sum(jnp.full_like(dropped, sigma), mask)
        soft = None
        if self.sgnet is not None:
            soft, seen = self._soft(self.sgnet, variables, images, bn)
            soft_value, soft_sums = classification(soft, batch)
            value += self.weight_s * soft_value
            sums["loss_s"] = soft_sums["ce"]
            moments = {**moments, TRAIN_ONLY: {SGNET: seen}}
        if self.guideline != "none":
            expected = self._expected(variables, soft, dropped)
            distance = jnp.abs(expected - dropped)
            value += self.weight_b * masked_mean(distance, mask)
            sums["expected"] = masked_sum(expected, mask)
            sums["loss_b"] = masked_sum(distance, mask)
        if self.wanted:
            gated = self.num_gates / self.backbone.num_blocks
            sums["ran"] = masked_sum(1 - gated * dropped, mask)
            reached = variables["stats"][TRAIN_ONLY][P_MAX]
            sums["p_max"] = masked_sum(jnp.full_like(dropped, reached), mask)
        return value, Aux(moments, sums)

    def expected(self, variables: Variables, images: Array) -> Array:
        """The share of blocks that the guideline asks to drop for each image, at test.

        Args:
          variables: as training left them, with what lies under `train_only`.
          images: (B, H, W, channels).

        Returns:
          (B,), in [0, p_max].

        Raises:
          UsageError: the guideline is `none`, or what it needs was left out of the variables.
        """
        if self.guideline == "none":
            raise UsageError(
                "guideline none expects nothing of an image", "a network of another guideline"
            )
        needed = self.sgnet is not None or self.wanted
        if needed and TRAIN_ONLY not in variables["stats"]:
            raise UsageError(
                f"{TRAIN_ONLY}, by which it is known what to expect, is not among these variables",
                next_step="load the checkpoint of a workdir as training does",
            )
        soft = None
        if self.sgnet is not None:
            soft, _ = self._soft(self.sgnet, variables, images, "running")
        return self._expected(variables, soft, jnp.zeros(len(images), jnp.float32))

    def _soft(
        self, sgnet: ResNet, variables: Variables, images: Array, bn: BNMode
    ) -> tuple[Array, PyTree]:
        """What SGNet says, logits (B, classes), and the moments of its BN layers."""
        own = cast(Variables, Take((TRAIN_ONLY, SGNET))(variables))
        logits, _, moments = self.forward(sgnet.module(), own, images, bn)
        return logits, moments

    def _expected(self, variables: Variables, soft: Array | None, dropped: Array) -> Array:
        """The expected share of each image, (B,); no gradient passes (docs/choices.md S8)."""
        p_max = variables["stats"][TRAIN_ONLY][P_MAX] if self.wanted else self.p_max
        if soft is None:
            return jnp.full_like(dropped, p_max)
        wide = soft.astype(dropped.dtype)
        sure = sureness(wide, self.temperature)
        return lax.stop_gradient(expected_drop(sure, p_max, cast(Mapping, self.guideline)))

    def _forward(
        self, variables: Variables, images: Array, bn: BNMode, noise: Noise | None
    ) -> GatedForward:
        module = PlannedFromStem(self.backbone, self.bmnet)
        logits, said, moments = self.forward(module, variables, images, bn, noise)
        return GatedForward(logits, said["gates"], said["logits"], moments)

    def test_forward(
        self,
        variables: Variables,
        images: Array,
        budget: Array | float | None,
        key: Array | None,
        bn: BNMode,
    ) -> GatedForward:
        """See `Dropping`: without noise."""
        del budget, key
        return self._forward(variables, images, bn, None)

    def plan_segment(self) -> Segment:
        """BMNet."""
        return Segment(BMNET, BMNetCode(self.bmnet()), Take((BMNET,)), "plan")

    def before_blocks(self, stem: Segment) -> tuple[Segment, ...]:
        """The stem, and the plan, which is made of its output."""
        return (stem, self.plan_segment())

    def fold(self, stats: PyTree, aux: Aux) -> PyTree:
        """See `Family`; p_max goes up where more blocks run than are wanted."""
        folded = super().fold(stats, aux)
        if not self.wanted:
            return folded
        total, count = aux.sums["ran"]
        ran = total / jnp.maximum(count, 1)
        old = stats[TRAIN_ONLY][P_MAX]
        moved = jnp.clip(old + self.wanted_rate * (ran - self.wanted), 0, MOST)
        return {**folded, TRAIN_ONLY: {**folded[TRAIN_ONLY], P_MAX: moved.astype(old.dtype)}}
