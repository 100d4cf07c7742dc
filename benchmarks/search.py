"""Evolution against chance on a table that is known whole: `python -m benchmarks.search`.

A resizable network of 243 operating points (5 maps at 3 scales, all of different sizes) is trained
on digits, once, and all its points are evaluated on the validation split, half of its training
images. Then both searches look for the best point within limits of MACs, the quartiles of all
points and none, with as many evaluations each, for `--seeds` seeds. Columns: how many points keep
the limit, the best top-1 of them; of both searches the median of what they found and the share of
the seeds that found the best; how much more evolution found, the mean over the seeds in percentage
points with its 95 % interval, and the smallest mean that would have been seen. It is of this one
table: of others, which another training leaves, it tells nothing. `kept`: evolution's median is at
least that of chance. `--recorded` compares on the table as it is, and trains and evaluates nothing.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import flags

from benchmarks.command import run
from benchmarks.provenance import facts
from jax_elastic import rng
from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.evaluation.intervals import mean_over_seeds
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import Column, format_count, format_share, format_table
from jax_elastic.inference.evolution import Coords, Scores, evolve, random_search
from jax_elastic.inference.measures import Measures
from jax_elastic.inference.strategy import DRAWN, Grid
from jax_elastic.inference.table import Table, read_table
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import claim, load_variables

NETWORK = Resizable(
    MobileNetV1((1, 2, 2, 2, 2), width=4, classes=10, stem="cifar"),
    scales=(0.5, 0.75, 1.0),
    side=32,
)
EXPERIMENT = Experiment(
    network=NETWORK,
    phases=(
        Phase(
            name="base",
            epochs=16.0,
            objective="fair",
            learning_rate=0.05,
            batch_size=32,
            nesterov=True,
            weight_decay=1e-4,
            schedule="cosine",
            validate=False,
        ),
    ),
    # So many validation images that operating points can be told apart.
    data=DataConfig("digits", validation=0.5),
    # One program with a switch for each map takes longer to compile than the training itself.
    form="staged",
    runtime=Runtime(log_every=50),
)
TABLE = Path("docs/results/search_table.json")
QUANTILES = (0.25, 0.5, 0.75, 1.0)
EVALUATIONS, SEEDS = 40, 20

Search = Callable[..., Scores]
Floats = npt.NDArray[np.float64]
SEARCHES: dict[str, Search] = {"evolution": evolve, "chance": random_search}

COLUMNS = (
    Column("limit", "MACs", format_count),
    Column("points", "points"),
    Column("best", "best", format_share),
    Column("evolution", "evolution", format_share),
    Column("chance", "chance", format_share),
    Column("evolution_found", "found it", "{:.0%}".format),
    Column("chance_found", "by chance", "{:.0%}".format),
    Column("no_worse", "no worse", "{:.0%}".format),
    Column("more", "more", lambda more: _points(more)),
    Column("more_ci95", "95 % interval", lambda ends: f"[{', '.join(map(_points, ends))}]"),
    Column("more_detectable", "detectable", lambda least: f"{100 * least:.2f}"),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    if not values.recorded:
        evaluate(Path(values.root), Path(values.table))
    rows = compare(list(read_table(Path(values.table)).values()), values.evaluations, values.seeds)
    shared = {"command": "python -m benchmarks.search " + " ".join(argv), **facts()}
    write_json(values.json, "search_benchmark", [{**row, **shared} for row in rows])
    if values.json != "-":
        print(f"{values.evaluations} of {len(NETWORK.subnets)} points, {values.seeds} seeds")
        print(format_table(rows, COLUMNS))


def evaluate(workdir: Path, path: Path) -> None:
    """Trains the network and evaluates all its operating points, what is missing of both."""
    claim(workdir, EXPERIMENT)
    train(EXPERIMENT, workdir, report=_report)
    variables, meta = load_variables(workdir, EXPERIMENT)
    dataset = load(EXPERIMENT.data, "validation")
    known = {
        "data": EXPERIMENT.data.name,
        "split": "validation",
        "n": len(dataset),
        "step": meta["step"],
        "checkpoint": "newest",
        "hash": meta["hashes"][meta["item"]],
        "recalibrated_images": None,
    }
    measures = Measures(NETWORK, variables, dataset, EXPERIMENT.data)
    Table(path, known).fill(Grid(NETWORK.subnets).every(), measures, _report)


def compare(rows: Sequence[Row], evaluations: int, seeds: int) -> list[dict[str, Any]]:
    """A row for each limit of MACs.

    Args:
      rows: of a table that has all operating points of `NETWORK`.
      evaluations: of each search.
      seeds: how many searches of each kind, two or more.
    """
    table = {_coords(row["subnet"]): row for row in rows}
    costs = [row["macs"] for row in rows]
    return [
        _row(table, float(np.quantile(costs, share)), evaluations, seeds) for share in QUANTILES
    ]


def _row(table: Mapping[Coords, Row], limit: float, evaluations: int, seeds: int) -> dict[str, Any]:
    fitting = [row["top1"] for row in table.values() if row["macs"] <= limit]
    best = max(fitting)
    found = {
        name: np.array([_best(table, limit, how, evaluations, seed) for seed in range(seeds)])
        for name, how in SEARCHES.items()
    }
    more = mean_over_seeds(found["evolution"] - found["chance"])
    medians = {name: float(np.median(values)) for name, values in found.items()}
    return {
        "limit": limit,
        "points": len(fitting),
        "best": best,
        **medians,
        **{f"{name}_mean": float(values.mean()) for name, values in found.items()},
        **{f"{name}_found": float((values == best).mean()) for name, values in found.items()},
        "no_worse": float((found["evolution"] >= found["chance"]).mean()),
        "more": more.mean,
        "more_ci95": (more.low, more.high),
        "more_detectable": more.detectable,
        "kept": medians["evolution"] >= medians["chance"],
        "evaluations": evaluations,
        "seeds": seeds,
    }


def _best(
    table: Mapping[Coords, Row], limit: float, how: Search, evaluations: int, seed: int
) -> float:
    """The top-1 of the best point that a search finds."""
    found = how(
        NETWORK.subnets.dims,
        lambda points: [table[point]["top1"] for point in points],
        lambda point: table[point]["macs"] <= limit,
        evaluations,
        rng.host(seed, rng.Stream.SEARCH, DRAWN),
    )
    return max(found.values())


def _coords(subnet: str) -> Coords:
    return tuple(int(i) for i in NETWORK.subnets.coords(Subnet.parse(subnet)))


def _points(difference: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * difference:+.2f}"


def _report(line: str) -> None:
    print(line, flush=True)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "evaluations", EVALUATIONS, "of each search", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("seeds", SEEDS, "of each search", lower_bound=2, flag_values=values)
    flags.DEFINE_bool("recorded", False, "take the table as it is", flag_values=values)
    flags.DEFINE_string("root", "runs/search", "the run's workdir", flag_values=values)
    flags.DEFINE_string("table", str(TABLE), "the table", flag_values=values)
    flags.DEFINE_string(
        "json", "docs/results/search.json", "rows go here; - for stdout", flag_values=values
    )
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
