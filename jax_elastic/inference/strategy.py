"""Which operating points a search measures: all, or where they are too many those worth trying.

References:
  Resizable Neural Networks (ICLR 2020 submission), RS-NAS; what it leaves open:
  docs/choices.md R16.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jax_elastic import rng
from jax_elastic.elastic.family import Family
from jax_elastic.evaluation.rows import Row
from jax_elastic.inference.cases import Point, asked_of
from jax_elastic.inference.evolution import Coords, evolve
from jax_elastic.inference.query import Limits, check_limits, excess, none_fits
from jax_elastic.subnet import Space, Subnet

DRAWN, SEEN = 0, 1
"""Places in the stream `SEARCH`: of the points that are drawn, and of the images they run on."""
Fill = Callable[[Sequence[Point]], Sequence[Row]]
"""Operating points, each once -> their rows."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """All operating points of a network with all budgets, as one product of choices.

    Attributes:
      space: the operating points.
      budgets: shares of the blocks, lowest first; (None,) where none is asked for.
    """

    space: Space
    budgets: tuple[float | None, ...] = (None,)

    @classmethod
    def of(cls, network: Family, budgets: Sequence[float] = ()) -> "Grid":
        """That of a network; no budgets for its own."""
        asked = asked_of(network, budgets)
        return cls(network.subnets, tuple(sorted(set(asked), key=lambda budget: budget or 0)))

    @property
    def dims(self) -> tuple[int, ...]:
        """The number of choices in each dimension; the last is that of the budgets."""
        return (*self.space.dims, len(self.budgets))

    def __len__(self) -> int:
        return len(self.space) * len(self.budgets)

    def at(self, coords: Sequence[int]) -> Point:
        """The point at a position."""
        *of_space, budget = coords
        return self.space.at(of_space), self.budgets[budget]

    def every(self) -> list[Point]:
        """All points, in the order of the space."""
        return [(subnet, budget) for subnet in self.space for budget in self.budgets]

    def several(self, n: int, generator: np.random.Generator) -> list[Point]:
        """Different points at random, and of these always the cheapest and the fullest.

        Args:
          n: how many, two or more; fewer points than there are.
          generator: what is drawn.
        """
        ends = (0, len(self) - 1)
        places = 1 + generator.choice(len(self) - 2, n - len(ends), replace=False)
        every = (np.unravel_index(place, self.dims) for place in sorted({*ends, *places}))
        return [self.at([int(i) for i in coords]) for coords in every]


def search(
    grid: Grid,
    fill: Fill,
    before: Callable[[Subnet], Row],
    limits: Limits,
    evaluations: int,
    seed: int = 0,
) -> str:
    """Measures all operating points, or as many as evaluations are given for.

    Where there are more, evolution looks for the best within limits: what can be told of a point
    beforehand keeps it from being measured, what cannot is judged afterwards. Without limits
    it is a sample of all, and both ends.

    Args:
      grid: the points.
      fill: measures some; see `Table.fill`.
      before: what a point costs that can be told without measuring it; see `Measures.before`.
      limits: see `query`.
      evaluations: how many points at most; two or more.
      seed: of what is drawn.

    Returns:
      What was done, in words.

    Raises:
      UsageError: a limit is no number, or not even the cheapest point keeps them.
    """
    check_limits(limits)
    if evaluations >= len(grid):
        fill(grid.every())
        return f"all {len(grid):,} operating points"
    generator = rng.host(seed, rng.Stream.SEARCH, DRAWN)
    if not limits:
        fill(grid.several(evaluations, generator))
        return f"a sample of {evaluations:,} of {len(grid):,} operating points"

    @functools.cache
    def fits(coords: Coords) -> bool:
        return excess(before(grid.at(coords)[0]), limits) == 0

    def score(points: Sequence[Coords]) -> list[float]:
        return [worth(row, limits) for row in fill([grid.at(point) for point in points])]

    cheapest = (0,) * len(grid.dims)
    if not fits(cheapest):
        subnet, budget = grid.at(cheapest)
        nearest: dict[str, Any] = {"subnet": str(subnet), "asked": budget, **before(subnet)}
        raise none_fits(nearest, limits)
    found = evolve(grid.dims, score, fits, evaluations, generator)
    return f"{len(found):,} of {len(grid):,} operating points, by evolution"


def worth(row: Row, limits: Limits) -> float:
    """What evolution prefers: top-1 within the limits, and without them whatever exceeds less."""
    over = excess(row, limits)
    return -over if over else float(row["top1"])
