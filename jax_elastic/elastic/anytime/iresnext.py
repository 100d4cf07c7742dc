"""I-ResNeXt: K nested widths of one ResNeXt, each with BN and a classifier of its own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.elastic.anytime.slicing import Cut, Slicing, TracedCut
from jax_elastic.elastic.family import (
    STATIC_FORMS,
    TRACED_FORMS,
    Array,
    Aux,
    Batch,
    BNMode,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import DType, Static
from jax_elastic.errors import UsageError
from jax_elastic.layers import norm
from jax_elastic.layers.banks import make_banks
from jax_elastic.subnet import FULL, Space, Subnet

AXIS = "width"


@dataclasses.dataclass(frozen=True)
class TakeBlock:
    """The `take` of a block of a sub-network.

    Attributes:
      site: where the block is in the whole network's variables.
      cut: which part of it is read.
    """

    site: Take
    cut: Cut

    def __call__(self, variables: Variables) -> PyTree:
        """The block's ``{"params", "stats"}``."""
        return self.cut.block(self.site(variables))


@dataclasses.dataclass(frozen=True)
class IResNeXt(Static):
    """A ResNeXt whose sub-network k keeps the first k / K of its branches: ``width:k``.

    Convolutions are shared; sub-network k has BN layers and a classifier (`exit`k) of its own. A
    training step runs all K one after the other and adds their gradients.

    Attributes:
      backbone: the whole network.
      subnetworks: K, which divides the number of branches.
      shared_bn: one set of BN parameters and statistics for all k instead (the paper's ablation).
      dtype: see `Static`.
      bn_momentum: see `Static`.

    Raises:
      UsageError: at construction, where K does not divide the branches.

    References:
      Anytime neural prediction, sections 2.1 and 3.1.
    """

    backbone: ResNeXt = dataclasses.field(default_factory=ResNeXt)
    subnetworks: int = 8
    shared_bn: bool = False
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    def __post_init__(self) -> None:
        super().__post_init__()
        branches = self.backbone.branches
        if self.subnetworks < 1 or branches % self.subnetworks:
            raise UsageError(
                f"{branches} branches cannot be shared by {self.subnetworks} sub-networks",
                "as many as divide the number of branches",
            )

    @property
    def subnets(self) -> Space:
        """``width:1`` ... ``width:K``."""
        return Space(AXIS, (tuple(range(1, self.subnetworks + 1)),))

    @property
    def forms(self) -> frozenset[str]:
        """All: the loss also takes a traced width."""
        return STATIC_FORMS | TRACED_FORMS

    @property
    def objectives(self) -> tuple[str, ...]:
        """`anytime`: the sum of all sub-networks' cross-entropies."""
        return ("anytime",)

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`."""
        return (self.backbone.classes,)

    def reference(self) -> "IResNeXt":
        """See `Family`."""
        return dataclasses.replace(self, backbone=self.backbone.reference())

    def thin(self, k: int) -> Plain:
        """Sub-network k as a network by itself: a plain ResNeXt with k / K of the branches.

        Raises:
          UsageError: there is no such sub-network.
        """
        self.check(Subnet(AXIS, (k,)))
        branches = self.backbone.branches * k // self.subnetworks
        return Plain(
            dataclasses.replace(self.backbone, branches=branches), self.dtype, self.bn_momentum
        )

    def slicing(self, k: int) -> Cut:
        """Cuts the variables of `thin(k)` out of those of the whole network.

        Raises:
          UsageError: there is no such sub-network.
        """
        self.check(Subnet(AXIS, (k,)))
        return Cut(k, self.subnetworks, not self.shared_bn)

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """Every sub-network, thinnest first."""
        del rng, when
        return tuple(Draw(subnet) for subnet in self.subnets)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """One sub-network's cross-entropy; sums `ce` and `top1`, over all of them."""
        del objective
        cut: Slicing
        if draw.subnet is not None:
            k = int(draw.subnet.value[0])
            cut, network = self.slicing(k), self.thin(k)
        else:
            assert draw.where is not None
            k = self.subnetworks
            cut = TracedCut(draw.where[0] + 1, k, not self.shared_bn)
            network = self.thin(k)
        own = cut.network(variables)
        value, aux = network.loss(own, batch, Draw(FULL), key, "base", bn)
        moments = norm.complete_moments(variables["stats"], cut.put_back(aux.moments))
        return value, Aux(moments, aux.sums)

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`: a pass for each."""
        found: list[Prediction] = []
        for subnet in subnets:
            self.check(subnet)
            k = int(subnet.value[0])
            own = self.slicing(k).network(variables)
            found += self.thin(k).predict(own, images, (FULL,), budget, key)
        return tuple(found)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """Stem, blocks and exit of one sub-network; all share the stem."""
        self.check(subnet)
        k = int(subnet.value[0])
        stem, *blocks, head = self.thin(k).segments(FULL)
        sites = (Take(site.path, site.index) for site in self.backbone.sites())
        thin = (
            dataclasses.replace(
                block, name=f"{block.name}/{subnet}", take=TakeBlock(site, self.slicing(k))
            )
            for block, site in zip(blocks, sites, strict=True)
        )
        return (stem, *thin, dataclasses.replace(head, name=f"exit{k}", take=Take((f"exit{k}",))))

    def _init(self, key: Array, images: Array) -> Any:
        whole = self.thin(self.subnetworks)
        fresh = whole.backbone.module().init(key, images, "running")
        found: dict[str, Any] = {
            collection: {name: part for name, part in tree.items() if name != "head"}
            for collection, tree in fresh.items()
        }
        if not self.shared_bn:
            found = make_banks(found, self.subnetworks)
        features = self.backbone.features(len(self.backbone.stage_sizes) - 1)
        for k in range(1, self.subnetworks + 1):
            head = self.backbone.make_head()
            own = head.init(jax.random.fold_in(key, k), jnp.zeros((1, 1, 1, features)), "running")
            for collection in found:
                found[collection][f"exit{k}"] = own[collection]
        return found
