"""`search`: a table of a trained network's operating points, and the best within limits."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from jax_elastic import rng
from jax_elastic.cli.flags import define_checkpoint, parse, parse_budgets, parse_subnets
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import cautions, facts, only_point, own_points
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.abilities import Targeted
from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.pareto import front
from jax_elastic.evaluation.plots_search import draw_search
from jax_elastic.evaluation.rows import Row, name_point, write_json
from jax_elastic.evaluation.tables import (
    Column,
    format_count,
    format_interval,
    format_share,
    format_table,
    with_values,
)
from jax_elastic.inference.cases import points_of
from jax_elastic.inference.latency import ROUNDS, describe_device
from jax_elastic.inference.measures import Measures, Recalibration, Timing
from jax_elastic.inference.query import (
    LIMITED,
    Limits,
    check_limits,
    choose,
    describe_limits,
    format_cost,
)
from jax_elastic.inference.recalibrate import BATCH_SIZE, whole_batches
from jax_elastic.inference.strategy import SEEN, Fill, Grid, search
from jax_elastic.inference.table import KIND, Table
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Meta
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.workdir import check_class_names, load_variables, read_config

EVALUATIONS = 512
ABOUT = f"""\
Evaluates operating points of a trained network on the validation split, and answers which is best
within --max_macs, --max_flops, --max_params or --max_ms: all points where there are up to
--evaluations={EVALUATIONS}, else those that evolution finds within the limits, else a sample.
Where --subnet names some, those alone are evaluated, and the answer is one of them.
Writes the table, WORKDIR/search.json, as it goes, and WORKDIR/search.png (of the best --checkpoint,
search-best); started again it goes on from that table, which later searches share."""

EXAMPLES = {"macs": "2.8e9", "flops": "5.6e9", "ms": "5", "params": "4e6"}
"""Limits as they are given, by name in `LIMITED`."""

COLUMNS = (
    Column("subnet", "subnet", left=True),
    Column("asked", "asked", format_share),
    Column("achieved", "achieved", format_share),
    Column("top1", "top-1", format_share),
    Column("top1_ci95", "95 % interval", format_interval),
    Column("macs", "MACs", format_count),
    Column("params", "parameters", format_count),
    Column("ms", "ms", "{:.3g}".format),
    Column("batch_size", "of batches"),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    limits = {name: most for name in LIMITED if (most := values[f"max_{name}"].value) is not None}
    check_limits(limits)
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    dataset = _seen(load_data(experiment.data, "validation"), values.images)
    check_class_names(meta, dataset)
    named = own_points(workdir, meta, parse_subnets(values.subnet))
    timing = Timing(values.batch_size, ROUNDS) if values.ms or "ms" in limits else None
    recalibration = _recalibration(values.recalibrate, experiment, meta)
    measures = Measures(
        experiment.network, variables, dataset, experiment.data, recalibration, timing
    )
    quiet = values.json == "-"
    name = "search" if values.checkpoint == "newest" else f"search-{values.checkpoint}"
    path = Path(workdir / f"{name}.json" if quiet or not values.json else values.json)
    facts_ = {
        "data": experiment.data.name,
        "split": "validation",
        "n": len(dataset),
        "step": meta["step"],
        "checkpoint": values.checkpoint,
        "hash": meta["hashes"][meta["item"]],
        "recalibrated_images": len(recalibration.images) if recalibration else None,
        **facts(meta),
    }
    of_time = {"batch_size": values.batch_size, "device": describe_device()} if timing else None
    table = Table(path, facts_, of_time)
    fill = partial(table.fill, measures=measures, report=_ignore if quiet else print)
    told, own = _measure(values, experiment.network, named, limits, measures, fill)
    if quiet:
        write_json("-", KIND, table.rows)
    else:
        print(f"{workdir}, step {meta['step']}: {told}; {len(table.rows):,} in {path}")
        for line in cautions(meta.get("recalibrated", {})):
            print(line)
    _answer(table.rows if own is None else own, limits, path, experiment, workdir, quiet)


def _measure(
    values: flags.FlagValues,
    network: Family,
    named: Sequence[Subnet],
    limits: Limits,
    measures: Measures,
    fill: Fill,
) -> tuple[str, Sequence[Row] | None]:
    """Measures the operating points that are named, or those of a search.

    Returns:
      What was done, in words; the rows of those that are named, among which the answer is to be,
      None where it may be any of the table.
    """
    budgets = parse_budgets(values.budgets)
    points = points_of(network, named, budgets)
    if points:
        rows = fill(points)
        return f"{len(points):,} operating point{'s' if len(points) > 1 else ''}, as named", rows
    grid = Grid.of(network, budgets)
    told = search(grid, fill, measures.before, limits, values.evaluations, values.seed)
    if network.candidates:
        fill([(subnet, None) for subnet in network.candidates])
        told += f", and {len(network.candidates)} candidates of their choices by themselves"
    return told, None


def _answer(
    rows: Sequence[Row],
    limits: Limits,
    path: Path,
    experiment: Experiment,
    workdir: Path,
    quiet: bool,
) -> None:
    """Prints the front and the answer, and draws them."""
    cost = next((name for name in ("ms", "macs", "flops", "params") if name in limits), "macs")
    rows = [row for row in rows if row[cost] is not None]
    if not quiet:
        best = front(rows, cost)
        print(f"Pareto front of top-1 and {LIMITED[cost]}, {len(best)} of {len(rows):,}:")
        print(format_table(best, with_values(COLUMNS, best)))
    # Where none fits it is an error, but what was measured is not lost.
    chosen = choose(rows, limits)
    if quiet:
        return
    about = f"step {chosen['step']}, {experiment.data.name}, validation split"
    title = f"{type(experiment.network).__name__}, {about}"
    figure = draw_search(rows, chosen, cost, limits.get(cost), title, limits)
    print(save_figure(figure, path.with_suffix(".png")))
    print(describe_answer(chosen, limits))
    for line in next_commands(chosen, workdir, experiment.network):
        print(f"  {line}")


def describe_answer(chosen: Row, limits: Limits) -> str:
    """The chosen row in a line.

    Args:
      chosen: of a table.
      limits: that it keeps.
    """
    place = f"best within {describe_limits(limits)}" if limits else "best of all"
    costs = [format_cost(name, chosen[name]) for name in ("macs", "params")]
    if chosen["ms"] is not None:
        costs += [f"{format_cost('ms', chosen['ms'])} for batches of {chosen['batch_size']}"]
    if chosen["achieved"] is not None:
        costs += [f"{format_share(chosen['achieved'])} of the blocks open"]
    interval = format_interval(chosen["top1_ci95"])
    return (
        f"{place}: {name_point(chosen)}, top-1 {format_share(chosen['top1'])} {interval} of "
        f"{chosen['n']:,} validation images, {', '.join(costs)}"
    )


def next_commands(chosen: Row, workdir: Path, network: Family) -> list[str]:
    """What to type next: the test of a chosen operating point, and its training alone.

    Args:
      chosen: of a table.
      workdir: of the run that was searched.
      network: the family; the training is of one that can be aimed at a point.
    """
    subnet, asked = chosen["subnet"], chosen["asked"]
    here = [f"--workdir={workdir}", f"--subnet={subnet}"]
    if chosen["recalibrated_images"] and "recalibrated" not in chosen:
        budget = [] if asked is None else [f"--budget={asked:g}"]
        test = ["recalibrate", *here, *budget, f"--images={chosen['recalibrated_images']}"]
    else:
        test = ["eval", *here, *([] if asked is None else [f"--budgets={asked:g}"])]
    lines = [["python", "-m", "jax_elastic", *test]]
    if isinstance(network, Targeted):
        point = [f"--config.subnet={subnet}", f"--config.init_from={workdir}"]
        lines += [["python", "train.py", "--config=configs/FILE.py:nas", *point, "--workdir=OTHER"]]
    return [shlex.join(line) for line in lines]


def _seen(dataset: Dataset, images: int | None) -> Dataset:
    """As many images of a split as are wanted, drawn from it; the same in every search."""
    if images is None or images >= len(dataset):
        return dataset
    order = rng.host(0, rng.Stream.SEARCH, SEEN).permutation(len(dataset))
    return dataset.take(np.sort(order[:images]))


def _recalibration(images: int | None, experiment: Experiment, meta: Meta) -> Recalibration | None:
    """Training images to estimate statistics from, in whole batches; None where none are wanted.

    Raises:
      UsageError: the workdir was itself recalibrated.
    """
    if images is None:
        return None
    if (only := only_point(meta)) is not None:
        raise UsageError(f"this workdir was recalibrated already, for {only}", "no --recalibrate")
    dataset = load_data(experiment.data, "train")
    batch_size = min(BATCH_SIZE, images, len(dataset))
    size = whole_batches(len(dataset), batch_size, images)
    ids = batch_ids(experiment.seed, 0, 0, len(dataset), size)
    return Recalibration(dataset.images[ids], batch_size)


def _ignore(line: str) -> None:
    del line


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    define_checkpoint(values)
    for name, unit in LIMITED.items():
        told = f"the most {unit} that the answer may take, a number such as {EXAMPLES[name]}"
        flags.DEFINE_float(f"max_{name}", None, told, flag_values=values)
    flags.DEFINE_integer(
        "evaluations",
        EVALUATIONS,
        "operating points that are evaluated at most",
        lower_bound=2,
        flag_values=values,
    )
    flags.DEFINE_string(
        "subnet",
        "",
        "only these operating points, separated by ;, are evaluated and can be the answer",
        flag_values=values,
    )
    flags.DEFINE_list("budgets", None, "budgets, for example 0.3,0.6", flag_values=values)
    flags.DEFINE_integer(
        "recalibrate",
        None,
        "training images from which BN statistics are estimated anew for each point, at most",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "images",
        None,
        "validation images, drawn from all; by default all of them",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool("ms", False, "time all points, as --max_ms does", flag_values=values)
    flags.DEFINE_integer(
        "batch_size", 1, "images per call that is timed", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "of what the search draws", lower_bound=0, flag_values=values)
    flags.DEFINE_string("json", None, "the table; - prints it and nothing else", flag_values=values)
    define_platform(values)
