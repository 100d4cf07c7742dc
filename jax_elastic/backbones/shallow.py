"""A ResNeXt with exits after some of its blocks: the usual way to an early answer.

The anytime paper's baseline: a shallow exit sees few layers, where a thin sub-network sees all.
Names of the parameter tree, which are public:

    increment1/stem/conv
    increment1/block1/{bn1, conv1, bn2, conv2, bn3, conv3}     blocks are numbered throughout
    exit1/{bn, classifier}
"""

import dataclasses

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.exits import ChainModule, Exit
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.errors import UsageError

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ShallowResNeXt:
    """The architecture: what a config says, and where the exits stand.

    Attributes:
      resnext: the blocks; its number of classes is that of every exit.
      after: an exit stands behind each of these blocks, counted from 1; the last is the last block.

    References:
      Anytime neural prediction, section 3.2.
    """

    resnext: ResNeXt = dataclasses.field(default_factory=ResNeXt)
    after: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 9)

    def __post_init__(self) -> None:
        blocks = self.resnext.num_blocks
        fits = self.after[-1:] == (blocks,) and self.after[0] >= 1
        if not fits or self.after != tuple(sorted(set(self.after))):
            raise UsageError(
                f"exits after blocks {self.after} do not fit a network of {blocks} blocks",
                f"ascending numbers from 1, the last of them {blocks}",
            )

    @property
    def exits(self) -> int:
        """The number of exits."""
        return len(self.after)

    @property
    def classes(self) -> tuple[int, ...]:
        """The number of classes of the one label level."""
        return (self.resnext.classes,)

    def reference(self) -> "ShallowResNeXt":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, resnext=self.resnext.reference())

    def make_increment(self, k: int, name: str | None = None) -> "BlocksBetween":
        """The blocks between the exits k - 1 and k, counted from 1; the first has the stem."""
        first = self.after[k - 2] if k > 1 else 0
        return BlocksBetween(self.resnext, first, self.after[k - 1], name=name)

    def make_exit(self, k: int, name: str | None = None) -> Exit:
        """The classifier behind increment k."""
        del k
        return Exit(self.classes, name=name)

    def module(self) -> ChainModule:
        """The whole network."""
        return ChainModule(self)


class BlocksBetween(nn.Module):
    """Blocks `first` + 1 ... `last` of a ResNeXt, and the stem if `first` is 0."""

    resnext: ResNeXt
    first: int
    last: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The image, or the map of block `first`, -> the map of block `last`."""
        if self.first == 0:
            x = self.resnext.make_stem(name="stem")(x, bn)
        for n, site in enumerate(self.resnext.sites()[self.first : self.last], self.first + 1):
            x, _ = self.resnext.make_block(site, name=f"block{n}")(x, None, bn)
        return x
