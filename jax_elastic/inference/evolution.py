"""Search among combinations of choices, where there are too many to try them all.

A point is its coordinates: the index of a choice in each dimension, of which 0 is the cheapest
(see `Space`), so that what exceeds a limit is brought within it by lowering coordinates.

References:
  Real et al. 2019 (evolution of architectures); Cai et al. 2020, whose search keeps the best
  of all points so far as parents and draws children within the limit.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Coords = tuple[int, ...]
Scores = dict[Coords, float]
"""Point -> score, in the order in which they were evaluated."""
Score = Callable[[Sequence[Coords]], Sequence[float]]
"""Points, all different -> what each is worth; higher is better."""
Fits = Callable[[Coords], bool]
"""Whether a point may be evaluated."""

TRIES = 100  # draws until a point that is new and fits is looked for otherwise
ENUMERATED = 10_000  # points that are looked at where drawing finds none


@dataclasses.dataclass(frozen=True)
class Evolution:
    """How children are made.

    Attributes:
      population: points of a generation; the first are drawn at random.
      parents: how many of the best so far have children.
      crossed: share of the children that have two parents; of the others single choices change.
      mutated: expected number of choices that change, 0 or more.

    Raises:
      ValueError: at construction, where a number is out of range.
    """

    population: int = 16
    parents: int = 8
    crossed: float = 0.5
    mutated: float = 1.0

    def __post_init__(self) -> None:
        sizes = min(self.population, self.parents)
        if sizes < 1 or not 0 <= self.crossed <= 1 or not 0 <= self.mutated < math.inf:
            raise ValueError(f"{self} is not a way to make children")


DEFAULT = Evolution()


def evolve(
    dims: Sequence[int],
    score: Score,
    fits: Fits,
    evaluations: int,
    rng: np.random.Generator,
    how: Evolution = DEFAULT,
) -> Scores:
    """Evolutionary search; no point is evaluated twice, and none that does not fit.

    Args:
      dims: the number of choices in each dimension.
      score: asked about a generation at a time.
      fits: asked before a point is evaluated, of many more than are; point 0, 0, ... must fit.
      evaluations: how many at most; fewer where all that fit were evaluated.
      rng: what is drawn; the same seed and scores give the same search.
      how: see `Evolution`.

    Returns:
      What was evaluated.

    Raises:
      ValueError: the cheapest point does not fit, or there are no evaluations.
    """
    _check(dims, fits, evaluations)
    found: Scores = {}
    while len(found) < evaluations:
        size = min(how.population, evaluations - len(found))
        best = sorted(found, key=lambda point: found[point], reverse=True)[: how.parents]
        drawn: dict[Coords, None] = {}
        for _ in range(size):
            seen = found.keys() | drawn.keys()
            children = itertools.islice(_children(dims, best, how, rng), TRIES)
            child = _new(children, fits, seen)
            child = _unseen(dims, fits, seen, rng) if child is None else child
            if child is None:
                break
            drawn[child] = None
        if not drawn:
            break
        found.update(zip(drawn, score(list(drawn)), strict=True))
    return found


def random_search(
    dims: Sequence[int],
    score: Score,
    fits: Fits,
    evaluations: int,
    rng: np.random.Generator,
) -> Scores:
    """What evolution is compared with: different points that fit, drawn at random.

    Each is as likely as any other where a share of all fit that is not tiny. See `evolve`.
    """
    _check(dims, fits, evaluations)
    drawn: dict[Coords, None] = {}
    while len(drawn) < evaluations:
        point = _unseen(dims, fits, drawn.keys(), rng)
        if point is None:
            break
        drawn[point] = None
    return dict(zip(drawn, score(list(drawn)), strict=True))


def _children(
    dims: Sequence[int], parents: Sequence[Coords], how: Evolution, rng: np.random.Generator
) -> Iterator[Coords]:
    """Children of parents, best first, without an end; nothing where there is no parent."""
    while parents:
        one, other = (np.array(parents[i]) for i in rng.integers(len(parents), size=2))
        if rng.random() < how.crossed:
            child = np.where(rng.random(len(dims)) < 0.5, one, other)
        else:
            changed = rng.random(len(dims)) < how.mutated / len(dims)
            child = np.where(changed, rng.integers(np.array(dims)), one)
        yield _point(child)


def _unseen(
    dims: Sequence[int], fits: Fits, seen: Container[Coords], rng: np.random.Generator
) -> Coords | None:
    """A random point that fits and was not seen; None where none is found."""
    drawn = rng.integers(np.array(dims, np.int64), size=(TRIES, len(dims)))
    found = _new(map(_point, drawn), fits, seen)
    if found is None:
        found = _new((_lowered(coords, fits, rng) for coords in drawn), fits, seen)
    if found is None:
        # Few are left, or there are few: the cheapest are gone through one by one.
        every = itertools.product(*map(range, dims))
        found = _new(itertools.islice(every, ENUMERATED), fits, seen)
    return found


def _lowered(coords: Ints, fits: Fits, rng: np.random.Generator) -> Coords:
    """The point with choices, drawn one after the other, made cheaper until it fits."""
    lowered = coords.copy()
    while not fits(_point(lowered)) and lowered.any():
        lowered[rng.choice(np.flatnonzero(lowered))] -= 1
    return _point(lowered)


def _new(points: Iterable[Coords], fits: Fits, seen: Container[Coords]) -> Coords | None:
    """The first of some points that fits and was not seen; else None."""
    return next((point for point in points if point not in seen and fits(point)), None)


def _point(coords: Ints) -> Coords:
    return tuple(int(i) for i in coords)


def _check(dims: Sequence[int], fits: Fits, evaluations: int) -> None:
    if evaluations < 1:
        raise ValueError(f"{evaluations} evaluations find nothing")
    if not fits((0,) * len(dims)):
        raise ValueError("the cheapest point does not fit")
