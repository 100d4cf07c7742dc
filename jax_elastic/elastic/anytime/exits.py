"""Networks with exits on the way, from which a shallow part answers: ``depth:k``."""

import dataclasses
from typing import cast

import flax.linen as nn

from jax_elastic.backbones.msdnet import MSDNet
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.elastic.anytime.one_pass import Answers, OnePass
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Segment, Variables
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import DType
from jax_elastic.layers import norm

AXIS = "depth"


@dataclasses.dataclass(frozen=True)
class IncrementCode:
    """The layers between two exits: ``image`` or ``x`` -> ``x``, which may be several maps.

    Attributes:
      module: the layers.
      dtype: see `Static`.
    """

    module: nn.Module
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        rest = {name: array for name, array in carry.items() if name not in ("image", "x")}
        x = carry["image"].astype(self.dtype) if "image" in carry else carry["x"]
        return {**rest, "x": self.module.apply(own, x, "running")}


@dataclasses.dataclass(frozen=True)
class Exits(OnePass):
    """A backbone with exits on the way.

    Attributes:
      backbone: the architecture.
      dtype: see `Static`.
      bn_momentum: see `Static`.

    References:
      Huang et al. 2018 (MSDNet); Anytime neural prediction, section 3.2 (shallow exits).
    """

    backbone: MSDNet | ShallowResNeXt = dataclasses.field(default_factory=MSDNet)
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
        module, images = self.backbone.module(), images.astype(self.dtype)
        own = cast(dict[str, PyTree], variables)
        found, sown = module.apply(own, images, bn, exits, mutable=["moments"])
        return found, sown.get("moments")

    def increment(self, k: int) -> Segment:
        """See `OnePass`."""
        code = IncrementCode(self.backbone.make_increment(k), self.dtype)
        return Segment(f"increment{k}", code, Take((f"increment{k}",)))
