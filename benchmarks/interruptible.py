"""What being interruptible costs, and how deadlines are kept: `python -m benchmarks.interruptible`.

The runner's increments and answers against the quickest pass that gives the last answer alone
(by the family's own forward, or by segments), in turn in one process; and calls with deadlines:
how much later than promised the last answer came. Columns: the ratio of times and that of MACs
(all increments and answers against the last point); `answers` that came in time, of all; `over`
of the deadline, median and 99th percentile in per cent of it (below zero: time that was left).

Networks, with fresh weights: isresnext (the paper's for CIFAR), msdnet (for CIFAR), shallow (the
29-layer ResNeXt with exits after blocks 2 to 9).
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from absl import flags

from benchmarks import fresh
from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.timing import load
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.cli.flags import parse, parse_numbers
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.anytime.one_pass import ALL_EXITS
from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.interruptible import Interruptible
from jax_elastic.inference.timing import interleaved

CIFAR = (32, 32, 3)
NETWORKS: dict[str, Family] = {
    "isresnext": ISResNeXt(),
    "msdnet": Exits(),
    "shallow": Exits(ShallowResNeXt()),
}
SHARES = (0.3, 0.6, 0.9, 1.2)  # deadlines, of what all increments take
BAR, MACS_BAR = 1.5, 1.01

COLUMNS = (
    Column("network", "network", left=True),
    Column("batch_size", "batch", str),
    Column("deadline", "deadline", "{:.0%}".format),
    Column("time_ratio", "time ratio", "{:.2f}".format),
    Column("low", "25 %", "{:.2f}".format),
    Column("high", "75 %", "{:.2f}".format),
    Column("mac_ratio", "MAC ratio", "{:.4f}".format),
    Column("answers", "answers", "{:.1f}".format),
    Column("over", "over", "{:+.0%}".format),
    Column("over_p99", "over, p99", "{:+.0%}".format),
    Column("bar", "bar", "{:.2f}".format),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network, its runner, and a batch.

    Attributes:
      name: in `NETWORKS`.
      network: the family.
      variables: its arrays.
      images: the batch.
      runner: with increments that are compiled and calibrated for the batch.
    """

    name: str
    network: Family
    variables: Variables
    images: Array
    runner: Interruptible


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    shared = {"command": "python -m benchmarks.interruptible " + " ".join(argv), **facts()}
    sizes = parse_numbers("batch_sizes", values.batch_sizes, int, "for example 1,64")
    found: list[dict[str, Any]] = []
    for name in cast(list[str], values.networks):
        network = NETWORKS[name]
        variables = fresh.variables(network, CIFAR)
        runner = Interruptible(network, variables)
        for size in sizes:
            images = fresh.images(size, CIFAR)
            subject = Subject(name, network, variables, images, runner)
            new = [whole(subject, values.rounds), *deadlines(subject, values.calls)]
            print(format_table(new, COLUMNS), flush=True)
            found += [{**row, **shared, **load()} for row in new]
            # What is done is kept, whatever comes after.
            write_json(values.json or "docs/results/interruptible.json", "interruptible", found)


def whole(subject: Subject, rounds: int) -> dict[str, Any]:
    """The row of all increments against the quickest pass for the last answer."""
    network, variables, images = subject.network, subject.variables, subject.images
    point = network.subnets.fullest
    forward = jax.jit(network.predict, static_argnums=2)
    engine = build_engine(network, variables, "masked", [point])
    runs: dict[str, Callable[[], object]] = {
        "forward": lambda: jax.block_until_ready(forward(variables, images, (point,), None)),
        "segments": lambda: jax.block_until_ready(engine(images, point)),
        "increments": lambda: list(subject.runner(images)),
    }
    seconds = interleaved(runs, rounds)
    quickest = min(("forward", "segments"), key=lambda name: float(np.median(seconds[name])))
    low, ratio, high = np.quantile(seconds["increments"] / seconds[quickest], (0.25, 0.5, 0.75))
    costs = CostModel(network, CIFAR)
    macs = costs.cost(ALL_EXITS).full / costs.cost(point).full
    return {
        "network": subject.name,
        "batch_size": len(images),
        "deadline": None,
        "time_ratio": float(ratio),
        "low": float(low),
        "high": float(high),
        "baseline": quickest,
        "mac_ratio": macs,
        "answers": float(len(network.subnets)),
        "bar": BAR,
        "kept": bool(ratio <= BAR and macs <= MACS_BAR),
        "rounds": rounds,
    }


def deadlines(subject: Subject, calls: int) -> list[dict[str, Any]]:
    """A row for each deadline; without answers where even the first does not keep it."""
    times = subject.runner.times(subject.images)
    total, first = float(times.usual.sum()), float(times.slowest[0])
    rows = []
    for share in SHARES:
        row: dict[str, Any] = {
            "network": subject.name,
            "batch_size": len(subject.images),
            "deadline": share,
            "answers": 0.0,
        }
        deadline = share * total
        if deadline >= first:  # a shorter one is refused
            over, answers = np.array([_call(subject, deadline) for _ in range(calls)]).T
            row |= {
                "answers": float(answers.mean()),
                "over": float(np.median(over) / deadline),
                "over_p99": float(np.quantile(over, 0.99) / deadline),
                "late": float((over > 0).mean()),
                "calls": calls,
            }
        rows.append(row)
    return rows


def _call(subject: Subject, deadline: float) -> tuple[float, int]:
    """How much after the deadline the last answer came, in seconds, and how many came."""
    start = time.perf_counter()
    count = sum(1 for _ in subject.runner(subject.images, deadline))
    return time.perf_counter() - start - deadline, count


def _define(values: flags.FlagValues) -> None:
    names = list(NETWORKS)
    flags.DEFINE_multi_enum("networks", names, names, "what is run", flag_values=values)
    flags.DEFINE_list("batch_sizes", ["1", "64"], "images", flag_values=values)
    flags.DEFINE_integer("rounds", 15, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_integer("calls", 100, "for each deadline", lower_bound=2, flag_values=values)
    flags.DEFINE_string("json", None, "rows go here, not to docs/results", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
