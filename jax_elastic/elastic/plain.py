"""A plain network as a family: one operating point, nothing to skip.

It is the baseline of every elastic network, and the first phase of those that grow out of one.
"""

import dataclasses
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.blocks import BLOCKS, ResidualBlock
from jax_elastic.backbones.resnet import ResNet, ResNetModule
from jax_elastic.elastic.family import (
    STATIC_FORMS,
    Array,
    Aux,
    Batch,
    BNMode,
    Carry,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.losses import cross_entropy, hits, masked_mean, masked_sum
from jax_elastic.elastic.segments import Take
from jax_elastic.errors import UsageError
from jax_elastic.layers import norm
from jax_elastic.subnet import FULL, Space, Subnet

DType = Literal["float32", "bfloat16", "float64"]


@dataclasses.dataclass(frozen=True)
class StemCode:
    """The stem: ``image`` -> ``x``, in the compute dtype from here on."""

    module: nn.Module
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        rest = {name: array for name, array in carry.items() if name != "image"}
        x = self.module.apply(own, carry["image"].astype(self.dtype), "running")
        return {**rest, "x": x}


@dataclasses.dataclass(frozen=True)
class BlockCode:
    """A residual block that always runs: ``x`` -> ``x``."""

    block: ResidualBlock

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        block = cast(nn.Module, self.block)
        x, _ = block.apply(own, carry["x"], None, "running")
        return {**carry, "x": x}


@dataclasses.dataclass(frozen=True)
class HeadCode:
    """The head: ``x`` -> ``logits``."""

    module: nn.Module

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        return {"logits": (self.module.apply(own, carry["x"]),)}


@dataclasses.dataclass(frozen=True)
class Plain:
    """A backbone trained with cross-entropy; its only operating point is `full`.

    Attributes:
      backbone: the architecture.
      dtype: what activations are computed in. Parameters, statistics and losses are float32,
        but for `float64`, which needs jax's x64 mode and is for checks of equality.
      bn_momentum: weight of the old value when BN statistics are updated.
    """

    backbone: ResNet = dataclasses.field(default_factory=ResNet)
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    def __post_init__(self) -> None:
        if not 0 <= self.bn_momentum < 1:
            raise UsageError(f"bn_momentum {self.bn_momentum:g} is no weight", "in [0, 1)")

    @property
    def subnets(self) -> Space:
        """See `Family`."""
        return Space()

    @property
    def forms(self) -> frozenset[str]:
        """See `Family`."""
        return STATIC_FORMS

    @property
    def candidates(self) -> tuple[Subnet, ...]:
        """See `Family`."""
        return ()

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`: cross-entropy."""
        return ("base",)

    @property
    def budgets(self) -> tuple[float, ...]:
        """None: it takes no budget."""
        return ()

    @property
    def random(self) -> bool:
        """False: `predict` draws nothing."""
        return False

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`."""
        return (self.backbone.classes,)

    def check(self, subnet: Subnet) -> None:
        """See `Family`."""
        self.subnets.check(subnet)

    def reference(self) -> "Plain":
        """See `Family`."""
        native = dataclasses.replace(self.backbone, conv="native")
        return dataclasses.replace(self, backbone=native)

    def init(self, key: Array, images: Array) -> Variables:
        """See `Family`. Numbers are drawn in float32 whatever the dtype.

        Raises:
          UsageError: dtype is float64 and jax's x64 mode is off.
        """
        if jax.dtypes.canonicalize_dtype(self.dtype) != self.dtype:
            raise UsageError("dtype float64 needs jax's x64 mode", next_step="set JAX_ENABLE_X64=1")
        fresh = self._init(key, jnp.zeros(images.shape, jnp.float32))
        wide = jnp.float64 if self.dtype == "float64" else jnp.float32

        def widen(leaf: Array) -> Array:
            return leaf.astype(wide) if leaf.dtype == jnp.float32 else leaf

        return {name: jax.tree.map(widen, fresh[name]) for name in ("params", "stats")}  # type: ignore[return-value]

    def _init(self, key: Array, images: Array) -> Any:
        return self.backbone.module().init(key, images, "running")

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One draw of the only operating point."""
        del rng, when
        return (Draw(FULL),)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """Cross-entropy; sums `ce` and `top1`."""
        del draw, key, objective
        module = self.backbone.module()
        logits, _, moments = self.forward(module, variables, batch["image"], bn)
        value, sums = classification(logits, batch)
        return value, Aux(moments, sums)

    def forward(
        self,
        module: ResNetModule,
        variables: Variables,
        images: Array,
        bn: BNMode,
        per_block: PyTree = None,
    ) -> tuple[Array, PyTree, PyTree]:
        """Runs a whole network: its logits, what its blocks gave, and all BN moments."""
        (logits, outs), sown = module.apply(
            cast(dict[str, PyTree], variables),
            images.astype(self.dtype),
            bn,
            per_block,
            mutable=["moments"],
        )
        return logits, outs, norm.complete_moments(variables["stats"], sown.get("moments"))

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`."""
        del budget, key
        logits, _, _ = self.forward(self.backbone.module(), variables, images, "running")
        return tuple(Prediction((logits,)) for _ in subnets)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """Stem, blocks and head."""
        self.check(subnet)
        blocks = [self.block_segment(n) for n in range(self.backbone.num_blocks)]
        head = Segment("head", HeadCode(self.backbone.make_head()), Take(("head",)))
        return (self.stem_segment(), *blocks, head)

    def stem_segment(self) -> Segment:
        """The segment before the blocks."""
        return Segment("stem", StemCode(self.backbone.make_stem(), self.dtype), Take(("stem",)))

    def block_segment(self, n: int) -> Segment:
        """The segment of block n, counted from 0."""
        site = self.backbone.sites()[n]
        code = BlockCode(self.backbone.make_block(site, BLOCKS[self.backbone.block]))
        return Segment(f"block{n + 1}", code, Take(site.path, site.index))

    def fold(self, stats: PyTree, aux: Aux) -> PyTree:
        """See `Family`."""
        return norm.fold(stats, aux.moments, self.bn_momentum)


def classification(logits: Array, batch: Batch) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """Mean cross-entropy of the first label level, and the sums `ce` and `top1`."""
    targets, mask = batch["targets"][0], batch["mask"]
    ce = cross_entropy(logits, targets)
    sums = {
        "ce": masked_sum(ce, mask),
        "top1": masked_sum(hits(logits, targets).astype(ce.dtype), mask),
    }
    return masked_mean(ce, mask), sums
