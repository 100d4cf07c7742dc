"""Time of choosing an operating point for each image: `python -m benchmarks.adaptive`.

A resizable network of digits size with random weights, whose images choose as they are told: all
the cheapest candidate, all the most expensive, or each as many; with --workdir a trained one, and
what its images choose by themselves, too. Each engine runs every mix of choices, against the
fullest network by engine static, all in turn in one process; each call has other images in other
places. Columns: the ratio of times, that of nominal MACs, and `executed`, which counts the
micro-batches that ran; the probe and the learner, which run for every image, are in all of them.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from absl import flags

from benchmarks import fresh
from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.timing import COLUMNS, Ratio, load
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load as load_data
from jax_elastic.elastic.family import Array, Variables
from jax_elastic.elastic.points import gated_codes
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_percentages, format_table
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.timing import interleaved
from jax_elastic.training.workdir import load as load_workdir

Choice = npt.NDArray[np.int32]
ENGINES = ("masked", "compacted", "bucketed", "auto")
STATIC = "fullest, static"
OWN = "its own"
VARIED = 4  # batches that take turns
BASE = Resizable(ResNet((2, 2, 2), width=8, classes=10), scales=(0.5, 0.75, 1.0), side=32)
# A learner as wide as the paper's would cost more than this network.
DIGITS = Adapt(BASE, width=32)

TABLE = (
    *COLUMNS[:1],
    *COLUMNS[2:5],
    Column("mac_ratio", "MAC ratio", "{:.2f}".format),
    Column("executed_mac_ratio", "executed", "{:.2f}".format),
    Column("choices", "choices, %", format_percentages),
)


def cheapest(candidates: int, size: int) -> Choice:
    """All choose the first."""
    del candidates
    return np.zeros(size, np.int32)


def uniform(candidates: int, size: int) -> Choice:
    """Each is chosen as often, up to one."""
    return np.arange(size, dtype=np.int32) % candidates


def dearest(candidates: int, size: int) -> Choice:
    """All choose the last."""
    return np.full(size, candidates - 1, np.int32)


MIXES: dict[str, Callable[[int, int], Choice]] = {
    "all the cheapest": cheapest,
    "each as often": uniform,
    "all the dearest": dearest,
}
"""Name -> (candidates, images) -> what each image chooses."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
      run: predicts one batch, each time the next one, and waits.
      macs: nominal, per image, on average over the batches.
      executed: the same of what was computed.
      choices: share of the images for each candidate; None where nothing is chosen.
    """

    run: Callable[[], object]
    macs: float
    executed: float
    choices: list[float] | None = None


class Subject:
    """A network that chooses, and everything that runs it.

    Args:
      network: the family.
      variables: its arrays.
      images: float (N, H, W, channels), normalised.
      size: images of a batch.
    """

    def __init__(self, network: Adapt, variables: Variables, images: Array, size: int):
        self._network, self._variables, self._size = network, variables, size
        self._point, self._count = network.subnets.fullest, len(network.candidates)
        self._costs = CostModel(network, images.shape[1:])
        places = [(i * size + np.arange(size)) % len(images) for i in range(VARIED)]
        self._batches = [images[place] for place in places]

    def fullest(self) -> Work:
        """The base at its fullest, for every image."""
        point = self._network.base.subnets.fullest
        engine = build_engine(self._network, self._variables, "static", [point])
        turns = itertools.cycle(self._batches)
        macs = float(self._costs.cost(point).full)
        return Work(lambda: jax.block_until_ready(engine(next(turns), point)), macs, macs)

    def works(self, name: str, mixes: list[str]) -> dict[str, Work]:
        """An engine under each mix of choices."""
        engine = build_engine(self._network, self._variables, name, [self._point])

        def work(mix: str) -> Work:
            given = [None if mix == OWN else self._gates(mix, i) for i in range(VARIED)]
            pairs = list(zip(self._batches, given, strict=True))
            opened = np.stack(
                [
                    np.asarray(engine(images, self._point, gates=gates).gates) >= 0
                    if gates is None
                    else np.asarray(gates)
                    for images, gates in pairs
                ]
            )
            way = engine.way(self._batches[0], self._point)
            codes = gated_codes(self._network, self._point)
            counts = opened.sum(1)
            computed = [
                way.computed(code, counts[:, n], self._size) for n, code in enumerate(codes)
            ]
            turns = itertools.cycle(pairs)

            def once() -> object:
                images, gates = next(turns)
                return jax.block_until_ready(engine(images, self._point, gates=gates))

            others = opened.mean((0, 1))
            return Work(
                once,
                self._macs(counts),
                self._macs(np.stack(computed, 1)),
                [float(1 - others.sum()), *others.tolist()],
            )

        return {f"{name}, {mix}": work(mix) for mix in mixes}

    def _gates(self, mix: str, turn: int) -> Array:
        """The gates (B, C - 1) of a mix of choices, in another order each turn."""
        choice = np.random.default_rng(turn).permutation(MIXES[mix](self._count, self._size))
        return jnp.asarray(choice[:, None] == np.arange(1, self._count))

    def _macs(self, counts: npt.NDArray[Any]) -> float:
        """MACs per image where each candidate but the first runs for (turns, C - 1) images."""
        cost = self._costs.cost(self._point)
        blocks = (counts / self._size) @ np.array(cost.blocks, float)
        return float(cost.fixed + cost.gates + blocks.mean())


def rows(dense: Work, works: dict[str, Work], rounds: int) -> list[dict[str, Any]]:
    """A row for each, against the fullest network, timed in turn."""
    seconds = interleaved({STATIC: dense.run, **{n: work.run for n, work in works.items()}}, rounds)
    return [
        {
            **Ratio(name, STATIC).row(seconds),
            "seconds": float(np.median(seconds[name])),
            "mac_ratio": work.macs / dense.macs,
            "executed_mac_ratio": work.executed / dense.macs,
            "choices": work.choices,
        }
        for name, work in {STATIC: dense, **works}.items()
    ]


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    for name in values.engines:
        if name not in ENGINES:
            raise UsageError(f"--engines has an unknown {name!r}", "of " + ", ".join(ENGINES))
    subject = _subject(values.workdir, values.batch_size)
    mixes = [OWN, *MIXES] if values.workdir else list(MIXES)
    dense = subject.fullest()
    shared = {"command": "python -m benchmarks.adaptive " + " ".join(argv), **facts()}
    shared |= {"network": values.workdir or "random weights", "batch_size": values.batch_size}
    found: list[dict[str, Any]] = []
    for name in values.engines:
        # The baseline again each time, close to what it is compared with: slow machines drift.
        new = rows(dense, subject.works(name, mixes), values.rounds)
        print(format_table(new, TABLE), flush=True)
        found += [{**row, **shared, **load()} for row in new]
        # What is done is kept, whatever comes after.
        write_json(values.json or "docs/results/adaptive.json", "adaptive", found)


def _subject(workdir: str | None, size: int) -> Subject:
    """Random weights and noise, or a trained network and validation images.

    Raises:
      UsageError: the network of the workdir is another one.
    """
    if workdir is None:
        shape = (BASE.side, BASE.side, 1)
        return Subject(DIGITS, fresh.variables(DIGITS, shape), fresh.images(size, shape), size)
    network, variables, experiment = load_workdir(Path(workdir))
    if not isinstance(network, Adapt):
        raise UsageError(f"images choose nothing in the network of {workdir}", "family adapt")
    split = load_data(experiment.data, "validation").images
    return Subject(network, variables, normalise(jnp.asarray(split), experiment.data), size)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "workdir", None, "of a trained network; random weights without", flag_values=values
    )
    flags.DEFINE_integer("batch_size", 256, "images", lower_bound=1, flag_values=values)
    what = "what runs them: " + ", ".join(ENGINES)
    flags.DEFINE_list("engines", list(ENGINES), what, flag_values=values)
    flags.DEFINE_integer("rounds", 7, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_string("json", None, "rows go here, not to docs/results", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
