"""Networks with gates for benchmarks of skipping, and which blocks their images open."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks import fresh
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.urnet import URNet

Gates = npt.NDArray[np.bool_]
Pattern = Callable[[np.random.Generator, int, int, float], Gates]


@dataclasses.dataclass(frozen=True)
class Gated:
    """A network whose gates are given from outside.

    Attributes:
      network: its gates cost nothing (`RandomDrop`), or are computed: block by block where they
        are conditional (`URNet`), in one plan before the blocks (`SGAD`).
      image_shape: (H, W, channels).
    """

    network: Family
    image_shape: tuple[int, int, int]

    def variables(self) -> Variables:
        """See `fresh.variables`."""
        return fresh.variables(self.network, self.image_shape)

    def images(self, size: int) -> Array:
        """See `fresh.images`."""
        return fresh.images(size, self.image_shape)


_CIFAR = (32, 32, 3)
_32 = ResNet((5, 5, 5))
_110 = ResNet((18, 18, 18))
_101 = ResNet((3, 4, 23, 3), width=64, classes=1000, block="bottleneck", stem="imagenet")
NETWORKS: dict[str, Gated] = {
    "resnet32": Gated(RandomDrop(_32), _CIFAR),
    "resnet110": Gated(RandomDrop(_110), _CIFAR),
    "resnet101": Gated(RandomDrop(_101), (224, 224, 3)),
    "urnet110": Gated(URNet(_110), _CIFAR),
    "urnet101": Gated(URNet(_101, reduction=16), (224, 224, 3)),
    "sgad32": Gated(SGAD(_32), _CIFAR),
    "sgad110": Gated(SGAD(_110), _CIFAR),
}
"""Name -> network; `resnet...` gates cost nothing, those of the others are computed."""
PLANS = 4  # that `shared` images have among them


def independent(rng: np.random.Generator, size: int, blocks: int, keep: float) -> Gates:
    """Each image opens round(keep x N) blocks of its own: bool (size, blocks)."""
    ranks = rng.permuted(np.tile(np.arange(blocks), (size, 1)), axis=1)
    opened: Gates = ranks < round(keep * blocks)
    return opened


def nested(rng: np.random.Generator, size: int, blocks: int, keep: float) -> Gates:
    """Images differ in difficulty alone: who opens a block opens all that more images open.

    The share of images that open a block runs evenly over the widest range around `keep`, in an
    order of blocks that is drawn: bool (size, blocks).
    """
    reach = min(keep, 1 - keep)
    shares = rng.permutation(np.linspace(keep - reach, keep + reach, blocks))
    ease = (rng.permutation(size) + 0.5) / size
    opened: Gates = ease[:, None] < shares
    return opened


def shared(rng: np.random.Generator, size: int, blocks: int, keep: float) -> Gates:
    """Each image has one of `PLANS` independent ones, whichever is drawn: bool (size, blocks)."""
    plans = independent(rng, PLANS, blocks, keep)
    return plans[rng.integers(PLANS, size=size)]


PATTERNS: dict[str, Pattern] = {"independent": independent, "nested": nested, "shared": shared}
"""Name -> (rng, images, blocks, keep) -> bool (images, blocks)."""
