"""What can run at each place of a resizable network: a stretch at one scale or another."""

import dataclasses
from collections.abc import Iterable, Sequence

from jax_elastic.elastic.family import Array, Segment
from jax_elastic.elastic.resizable.stretches import Option, Parts, ResizeCode, Stretch, StretchCode
from jax_elastic.elastic.segments import take_nothing
from jax_elastic.layers.resize import scaled


@dataclasses.dataclass(frozen=True)
class Options:
    """The options at each place of a network, and which of them an operating point runs.

    Attributes:
      columns: for each place, in order, an option for each scale. There is but one where nothing
        is chosen, before the first map that is resized.
      scales: what is chosen from.
      chosen: for how many places, the last ones, a scale is chosen.
    """

    columns: tuple[tuple[Option, ...], ...]
    scales: tuple[float, ...]
    chosen: int

    @property
    def unchosen(self) -> int:
        """How many places are before the first map that is resized: one or none."""
        return len(self.columns) - self.chosen

    def everywhere(self, where: Iterable[int | Array]) -> list[int | Array]:
        """The index for each place; `where` has those of the places that are chosen for."""
        return [*[0] * self.unchosen, *where]

    def at(self, where: Sequence[int]) -> tuple[Option, ...]:
        """What runs, in order, where the scales have these indices."""
        indices = map(int, self.everywhere(where))
        return tuple(column[i] for column, i in zip(self.columns, indices, strict=True))

    def segments(self, where: Sequence[int]) -> tuple[Segment, ...]:
        """What runs, as segments, named as `Resizable.segments` says."""
        found, first = [], 1 - self.unchosen
        for number, (resizing, code) in enumerate(self.at(where), first):
            bank = code.stretch.bank
            own = "" if bank is None else f"/scale{self.scales[int(bank)]}"
            found.append(Segment(f"resize{number}/{resizing.side}", resizing, take_nothing))
            found.append(Segment(f"map{number}{own}", code, code.stretch))
        return tuple(found)


def make_options(
    runs: Sequence[Parts],
    image: ResizeCode,
    scales: tuple[float, ...],
    standard: Sequence[int],
    shared_bn: bool,
) -> Options:
    """The options of a network.

    Args:
      runs: the parts of each place, in order.
      image: what makes squares of the images; maps are resized as it does.
      scales: what is chosen from.
      standard: of each map that is resized the side at scale 1, in pixels; of the last places.
      shared_bn: whether one set of BN layers is for all scales.
    """
    of = len(scales)
    used: Sequence[int | None] = (None,) * of if shared_bn else range(of)

    def option(place: int, side: int, bank: int | None) -> Option:
        code = StretchCode(Stretch(runs[place], bank, of), place, place == len(runs) - 1)
        return dataclasses.replace(image, side=side), code

    unchosen = len(runs) - len(standard)
    before = tuple((option(place, image.side, None),) for place in range(unchosen))
    after = tuple(
        tuple(
            option(place, scaled(of_map, scale), bank)
            for scale, bank in zip(scales, used, strict=True)
        )
        for place, of_map in enumerate(standard, unchosen)
    )
    return Options(before + after, scales, len(standard))
