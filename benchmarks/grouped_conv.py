"""Times of the grouped convolution's implementations: `python -m benchmarks.grouped_conv`.

A forward and both gradients, for the 3x3 convolutions of the ResNeXts that stop at any moment
(`CASES`), each alone and as the body of a scan over four; the line that the others are compared
with is `dense`, one block-diagonal convolution. `split N` is one of N channels after the other.
`native` is timed with `--native` only: on a CPU it takes minutes.
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from jax import lax

from benchmarks.command import run
from benchmarks.dispatches import Run
from benchmarks.provenance import facts
from benchmarks.timing import COLUMNS, Ratio, load
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.inference.timing import interleaved
from jax_elastic.layers.grouped import GROUPED, Grouped, split_conv
from jax_elastic.macs import count_macs

Array = jax.Array
WIDTHS = (8, 16, 32, 64)  # channels of one convolution of `split`
PLACES = ("alone", "in a scan")
LENGTH = 4  # of the scan


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution's shape.

    Attributes:
      groups: how many.
      width: channels of each, in and out.
      side: of the square map, in pixels.
      batch: images.
    """

    groups: int
    width: int
    side: int
    batch: int

    def __str__(self) -> str:
        return f"{self.groups} x {self.width}, {self.side}x{self.side}"

    def image(self) -> jax.ShapeDtypeStruct:
        """The input, and the output."""
        shape = (self.batch, self.side, self.side, self.groups * self.width)
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def kernel(self) -> jax.ShapeDtypeStruct:
        """The grouped kernel."""
        return jax.ShapeDtypeStruct((3, 3, self.width, self.groups * self.width), jnp.float32)


CASES = (
    *(Case(8, width, side, 64) for width, side in ((4, 32), (8, 16), (16, 8))),  # I, CIFAR
    *(Case(18, width, side, 64) for width, side in ((4, 32), (8, 16), (16, 8))),  # IS, CIFAR
    *(Case(30, w, side, 4) for w, side in ((4, 56), (8, 28), (16, 14), (32, 7))),  # IS, ImageNet
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    found: list[dict[str, Any]] = []
    for case in CASES:
        found += measure(case, forms(case, values.native), values.rounds)
    shared = {"command": "python -m benchmarks.grouped_conv " + " ".join(argv), **facts(), **load()}
    write_json(values.json, "grouped_conv", [{**row, **shared} for row in found])
    columns = [Column("case", "groups x channels, map", left=True), Column("place", "", left=True)]
    macs = Column("macs", "MACs / dense", "{:.2f}".format)
    shown = [c for c in COLUMNS if c.key not in ("baseline", "bar", "kept")]
    print(format_table(found, [*columns, *shown, macs]))


def forms(case: Case, native: bool = False) -> dict[str, Grouped]:
    """What is timed, by name: `split` of those widths that cut a case into different pieces."""
    found = {"dense": GROUPED["dense"]}
    for width in WIDTHS:
        pieces = max(1, width // case.width)
        if pieces < case.groups and (width == WIDTHS[0] or width >= 2 * case.width):
            found[f"split {pieces * case.width}"] = partial(split_conv, width=width)
    return found | ({"native": GROUPED["native"]} if native else {})


def measure(case: Case, forms: dict[str, Grouped], rounds: int) -> list[dict[str, Any]]:
    """A row per form and place: `timing.Ratio.row`, the case, and `macs` against `dense`."""
    runs = {
        (place, name): runner(case, form, place)
        for place, (name, form) in itertools.product(PLACES, forms.items())
    }
    seconds = interleaved(runs, rounds)
    macs = {name: executed(case, form) for name, form in forms.items()}
    return [
        {
            "case": str(case),
            "batch": case.batch,
            "place": place,
            **Ratio(name, "dense").row({form: seconds[place, form] for form in forms}),
            "macs": macs[name] / macs["dense"],
        }
        for place, name in runs
    ]


def executed(case: Case, form: Grouped) -> int:
    """MACs of the forward."""
    return count_macs(lambda x, w: form(x, w, case.groups, 1), case.image(), case.kernel())


def runner(case: Case, form: Grouped, place: str) -> Run:
    """Value and gradients of a convolution, or of a scan over four."""
    key = jax.random.key(0)
    x, ct = (jax.random.normal(k, case.image().shape) for k in jax.random.split(key))
    shape = case.kernel().shape
    kernels = jax.random.normal(key, shape if place == PLACES[0] else (LENGTH, *shape))

    def convolved(x: Array, kernels: Array) -> Array:
        if place == PLACES[0]:
            return form(x, kernels, case.groups, 1)
        return lax.scan(lambda x, w: (form(x, w, case.groups, 1), None), x, kernels)[0]

    @jax.jit
    def step(x: Array, kernels: Array, ct: Array) -> Sequence[Array]:
        out, vjp = jax.vjp(convolved, x, kernels)
        return out, *vjp(ct)

    return lambda: jax.block_until_ready(step(x, kernels, ct))


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 15, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_bool("native", False, "times `native` too", flag_values=values)
    flags.DEFINE_string(
        "json", "docs/results/grouped_conv.json", "rows go here", flag_values=values
    )
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
