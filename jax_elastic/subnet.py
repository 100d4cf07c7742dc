"""The vocabulary of operating points: `Subnet`, and `Space`, the lazy product that holds them."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Self

import jax
import numpy as np

from jax_elastic.errors import UsageError

Number = int | float
MANY = 64  # points; of more, a report shows the two ends

_AXIS = re.compile(r"[a-z][a-z_]*")
_NUMBERS = re.compile(r"[-+.,\d\s]*\d[-+.,\d\s]*")


@dataclasses.dataclass(frozen=True)
class Subnet:
    """One operating point of an elastic network, e.g. ``resolution:1,0.7`` or ``full``.

    It is frozen and hashable, so it can be a static argument or a key. Its syntax is checked
    here; whether a network has it, `Family.check` says. `1` and `1.0` are the same value.

    Attributes:
      axis: what is varied (`full`, `width`, `resolution`, ...); lower-case letters and `_`.
      value: one finite number per choice along that axis; empty for `full`.

    Raises:
      UsageError: the axis or a value is not of that form.
    """

    axis: str
    value: tuple[Number, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.axis, str) or not _AXIS.fullmatch(self.axis):
            raise UsageError(
                f"{self.axis!r} is not the name of an axis",
                "lower-case letters and _, for example full or resolution:1,0.7",
            )
        if isinstance(self.value, str) or not isinstance(self.value, Iterable):
            raise UsageError(
                f"{self.value!r} of subnet {self.axis!r} are not its numbers",
                "a tuple, for example (2,)",
            )
        object.__setattr__(self, "value", tuple(self.value))
        for value in self.value:
            number = isinstance(value, Real) and not isinstance(value, bool)
            # `math.isfinite` overflows on integers that no float holds.
            if not number or not -math.inf < value < math.inf:
                raise UsageError(f"{value!r} in subnet {self.axis!r} is not a finite number")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` prints: ``axis`` or ``axis:number,number,...``.

        Raises:
          UsageError: `text` is not of that form.
        """
        axis, colon, numbers = text.strip().partition(":")
        if _NUMBERS.fullmatch(axis) and not colon:
            raise UsageError(
                f"{text!r} are numbers without their axis",
                "an axis and its numbers, for example full, width:3 or resolution:1,0.7",
                f"put the network's axis before them, AXIS:{text.strip()}; jax-elastic macs lists "
                "its points",
            )
        try:
            value = tuple(_number(part) for part in numbers.split(",")) if colon else ()
        except ValueError:
            raise UsageError(
                f"{text!r} is not an operating point",
                "an axis and its numbers, for example full, width:3 or resolution:1,0.7",
            ) from None
        return cls(axis, value)

    def __str__(self) -> str:
        numbers = ",".join(_print_number(value) for value in self.value)
        return f"{self.axis}:{numbers}" if numbers else self.axis


def _number(text: str) -> Number:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _print_number(value: Number) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


@dataclasses.dataclass(frozen=True)
class Space:
    """All operating points of a network: a product of choices that is never written out.

    A point is a `Subnet`, or its `coords`: one index per dimension. Coordinates are integers,
    so a traced computation can carry them where it cannot carry a `Subnet`.

    Attributes:
      axis: the axis of every point.
      choices: for each dimension its values, cheapest first. No dimension: the one point `axis`.
    """

    axis: str = "full"
    choices: tuple[tuple[Number, ...], ...] = ()

    @property
    def dims(self) -> tuple[int, ...]:
        """The number of choices in each dimension."""
        return tuple(len(values) for values in self.choices)

    @property
    def cheapest(self) -> Subnet:
        """The first choice in every dimension."""
        return self.at([0] * len(self.choices))

    @property
    def fullest(self) -> Subnet:
        """The last choice in every dimension."""
        return self.at([n - 1 for n in self.dims])

    def __len__(self) -> int:
        return math.prod(self.dims)

    def __iter__(self) -> Iterator[Subnet]:
        return (Subnet(self.axis, value) for value in itertools.product(*self.choices))

    def __contains__(self, subnet: Subnet) -> bool:
        return (
            subnet.axis == self.axis
            and len(subnet.value) == len(self.choices)
            and all(v in values for v, values in zip(subnet.value, self.choices, strict=True))
        )

    def check(self, subnet: Subnet) -> None:
        """Raises a `UsageError` that names what is allowed if `subnet` is not in this space."""
        if subnet in self:
            return
        form = f"{self.axis}:" + ",".join("v" * len(self.choices)) if self.choices else self.axis
        values = [
            "{" + ", ".join(_print_number(v) for v in values) + "}" for values in self.choices
        ]
        each = len(values) > 1 and len(set(values)) == 1
        allowed = f"each v from {values[0]}" if each else "v from " + " x ".join(values)
        raise UsageError(
            f"operating point {subnet} does not fit this network",
            f"it takes {form}" + (f" with {allowed}" if values else ""),
        )

    def coords(self, subnet: Subnet) -> np.ndarray:
        """The position of a point: int32 (dims,). Raises `UsageError` if it is not in here."""
        self.check(subnet)
        pairs = zip(subnet.value, self.choices, strict=True)
        return np.array([values.index(value) for value, values in pairs], np.int32)

    def at(self, coords: Sequence[int] | np.ndarray) -> Subnet:
        """The point at a position; the inverse of `coords`."""
        return Subnet(
            self.axis, tuple(values[int(i)] for i, values in zip(coords, self.choices, strict=True))
        )

    def index(self, coords: np.ndarray | jax.Array) -> int | jax.Array:
        """A point's place in iteration order; `coords` int (dims,) may be traced."""
        index: int | jax.Array = 0
        for i, size in enumerate(self.dims):
            index = index * size + coords[i]
        return index

    def shown(self) -> tuple[Subnet, ...]:
        """What a report shows by default: every point, or of more than `MANY` the two ends."""
        return (self.cheapest, self.fullest) if len(self) > MANY else tuple(self)

    def sample(self, rng: np.random.Generator) -> Subnet:
        """One point, uniformly at random."""
        return self.at([int(rng.integers(size)) for size in self.dims])

    def several(self, n: int, rng: np.random.Generator) -> tuple[Subnet, ...]:
        """Different points, each set of `n` of them as likely as any other; in iteration order.

        Raises:
          UsageError: there are not so many.
        """
        if not 0 < n <= len(self):
            raise UsageError(
                f"{n} of {len(self)} operating points cannot be sampled", f"1 to {len(self)}"
            )
        places = np.sort(rng.choice(len(self), n, replace=False))
        every = (np.unravel_index(place, self.dims) for place in places)
        return tuple(self.at([int(i) for i in coords]) for coords in every)

    def by_cost(self, cost: Callable[[Subnet], float]) -> list[Subnet]:
        """Every point, cheapest first; equal costs keep iteration order."""
        return sorted(self, key=cost)


FULL = Subnet("full")
"""The only operating point of a network that has nothing to choose."""
