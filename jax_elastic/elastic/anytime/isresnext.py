"""IS-ResNeXt as a family: K answers in one pass, and the increments it is cut into."""

import dataclasses
import functools
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.backbones.resnext import downsample
from jax_elastic.elastic.anytime.one_pass import Answers, OnePass
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Segment, Variables
from jax_elastic.elastic.static import DType
from jax_elastic.layers import norm
from jax_elastic.layers.grouped import grouped_conv
from jax_elastic.layers.pointwise import pointwise

AXIS = "width"


@dataclasses.dataclass(frozen=True)
class TakeGroups:
    """Cuts sub-features `first` + 1 ... `last` of all but the exits.

    Attributes:
      first: how many come before.
      last: from 1.
      of: K.
    """

    first: int
    last: int
    of: int

    def __call__(self, variables: Variables) -> PyTree:
        """``{"params", "stats"}`` without exits."""

        def cut(tree: PyTree) -> PyTree:
            if "group1" in tree:
                return {
                    f"group{j}": tree[f"group{j}"] for j in range(self.first + 1, self.last + 1)
                }
            return {
                name: cut(node) if isinstance(node, dict) else self._share(name, node)
                for name, node in tree.items()
                if not name.startswith("exit")
            }

        return {collection: cut(tree) for collection, tree in variables.items()}

    def _share(self, name: str, leaf: Array) -> Array:
        if name == "count":
            return leaf
        share = leaf.shape[-1] // self.of
        return leaf[..., self.first * share : self.last * share]


@dataclasses.dataclass(frozen=True)
class IncrementCode:
    """Sub-feature j through the whole depth, from what those before it left behind.

    It reads ``image`` and ``seen``, and hands on ``seen``: of each stage, and there of each
    sub-feature so far, what it puts into the first convolutions, (L, B, H, W, C / K), stacked over
    the stage's blocks; and ``x``, the last map, (B, H, W, j C / K).

    Attributes:
      net: the whole network.
      dtype: see `Static`.
    """

    net: Architecture
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        one = self.net.first(1)
        stem = {collection: tree["stem"] for collection, tree in own.items() if "stem" in tree}
        x: Any = one.make_stem().apply(stem, carry["image"].astype(self.dtype), "running")
        stages = range(len(self.net.stage_sizes))
        before = carry.get("seen", [()] * len(stages))
        seen = []
        for i in stages:
            if i:
                x = downsample(x, one.features(i))
            blocks = {collection: own[collection][f"stage{i + 1}"]["blocks"] for collection in own}
            x, put = self._stage(blocks, x, before[i])
            seen.append((*before[i], put))
        xs = [carry["x"], x] if "x" in carry else [x]
        return {**carry, "seen": seen, "x": jnp.concatenate(xs, -1)}

    def _stage(self, own: PyTree, x: Array, before: tuple[Array, ...]) -> tuple[Array, Array]:
        """The stage's blocks of one sub-feature: its map, and what it put into each block."""
        (mixing,) = own["params"]["conv1"].values()
        kernels = jnp.split(jnp.asarray(mixing["kernel"], x.dtype), len(before) + 1, -2)

        def block(x: Array, row: Any) -> tuple[Array, Array]:
            own, kernels, earlier = row

            def bn(name: str, x: Array) -> Array:
                layer = {collection: own[collection][name] for collection in own}
                return nn.relu(cast(Array, norm.BatchNorm().apply(layer, x, "running")))

            def weights(name: str) -> Array:
                return jnp.asarray(own["params"][name]["kernel"], x.dtype)

            put = bn("bn1", x)
            # One by one: to join them would copy all that was seen so far.
            pairs = zip((*earlier, put), kernels, strict=True)
            y = bn("bn2", functools.reduce(jnp.add, (pointwise(*pair) for pair in pairs)))
            groups = self.net.branches // self.net.subfeatures
            y = bn("bn3", grouped_conv(y, weights("conv2"), groups, self.net.grouped))
            return x + pointwise(y, weights("conv3")), put

        found: tuple[Array, Array] = lax.scan(block, x, (own, kernels, before))
        return found


@dataclasses.dataclass(frozen=True)
class ISResNeXt(OnePass):
    """A ResNeXt of K sub-features with an exit behind each: ``width:k``.

    Attributes:
      backbone: the architecture.
      dtype: see `Static`.
      bn_momentum: see `Static`.

    References:
      Anytime neural prediction, section 2.2.
    """

    backbone: Architecture = dataclasses.field(default_factory=Architecture)
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    @property
    def axis(self) -> str:
        """See `OnePass`."""
        return AXIS

    def answers(
        self, variables: Variables, images: Array, bn: BNMode, exits: tuple[int, ...]
    ) -> tuple[Answers, PyTree]:
        """See `OnePass`."""
        upto = max(exits)
        own = cast(dict[str, PyTree], variables)
        if upto < self.exits:
            cut = TakeGroups(0, upto, self.exits)(variables)
            own = {name: {**_exits(own[name]), **tree} for name, tree in cut.items()}
        module = self.backbone.first(upto).module()
        images = images.astype(self.dtype)
        found, sown = module.apply(own, images, bn, exits, mutable=["moments"])
        return found, sown.get("moments")

    def increment(self, k: int) -> Segment:
        """See `OnePass`."""
        code = IncrementCode(self.backbone, self.dtype)
        return Segment(f"increment{k}", code, TakeGroups(k - 1, k, self.exits))


def _exits(tree: PyTree) -> PyTree:
    return {name: node for name, node in tree.items() if name.startswith("exit")}
