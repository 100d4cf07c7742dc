"""`latency`: what each operating point and engine takes on this device, and which keeps a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from jax_elastic.cli.flags import (
    define_checkpoint,
    parse,
    parse_budgets,
    parse_numbers,
    parse_subnets,
)
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import cautions, facts, only_point, own_points
from jax_elastic.data.datasets import load as load_data
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_latency import draw_latency
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import (
    Column,
    format_count,
    format_share,
    format_table,
    with_values,
)
from jax_elastic.inference.cases import plan
from jax_elastic.inference.engine import ENGINES
from jax_elastic.inference.latency import ROUNDS, describe_device, measure
from jax_elastic.inference.within_time import check_budget_ms, choose, name_row, quickest, within
from jax_elastic.training.workdir import check_class_names, load_variables, read_config

ABOUT = """\
Measures what each operating point and engine of a trained network takes on this device, with
images and accuracies of the validation split; writes WORKDIR/latency.json and WORKDIR/latency.png
(of the best --checkpoint, latency-best). --budget_ms=5 answers with the operating point of the
best accuracy whose calls take at most 5 ms."""

SIZES = "images per call, for example --batch_sizes=1,64"

COLUMNS = (
    Column("batch_size", "batch"),
    Column("subnet", "subnet", left=True),
    Column("asked", "asked", format_share),
    Column("achieved", "achieved", format_share),
    Column("engine", "engine", left=True),
    Column("ms_median", "ms", "{:.3g}".format),
    Column("ms_p99", "p99", "{:.3g}".format),
    Column("ms_per_image", "per image", "{:.3g}".format),
    Column("time_ratio", "time / dense", "{:.2f}".format),
    Column("mac_ratio", "MACs / dense", "{:.2f}".format),
    Column("macs_mean", "MACs", format_count),
    Column("executed_macs_mean", "executed", format_count),
    Column("top1", "top-1", format_share),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    if values.budget_ms is not None:
        check_budget_ms(values.budget_ms)
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    dataset = load_data(experiment.data, "validation")
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    check_class_names(meta, dataset)
    cases = plan(
        experiment.network,
        parse_numbers("batch_sizes", values.batch_sizes, int, SIZES),
        own_points(workdir, meta, parse_subnets(values.subnet)),
        parse_budgets(values.budgets),
        values.engines,
        only_point(meta),
    )
    found = measure(experiment.network, variables, dataset, experiment.data, cases, values.rounds)
    where = {"data": experiment.data.name, "split": "validation", "step": meta["step"]}
    where["checkpoint"] = values.checkpoint
    rows: list[Row] = [{**where, **facts(meta), **row} for row in found]
    if values.budget_ms is not None:
        kept = within(rows, values.budget_ms).values()
        rows = [{**row, "chosen": any(row is one for one in kept)} for row in rows]
    name = "latency" if values.checkpoint == "newest" else f"latency-{values.checkpoint}"
    write_json(values.json or workdir / f"{name}.json", "latency", rows)
    if values.json != "-":
        print(f"{workdir}, step {meta['step']}, on {describe_device()}; top-1: validation split")
        for line in cautions(meta.get("recalibrated", {})):
            print(line)
        print(format_table(rows, with_values(COLUMNS, rows)))
        title = f"{type(experiment.network).__name__} on {describe_device()}"
        print(save_figure(draw_latency(rows, title), workdir / f"{name}.png"))
    if values.budget_ms is not None:
        # Where none fits it is an error, but what was measured is not lost.
        lines = describe_choice(choose(rows, values.budget_ms), rows, values.budget_ms)
        if values.json != "-":
            print(*lines, sep="\n")


def describe_choice(
    chosen: Mapping[int, Row | None], rows: Sequence[Row], budget_ms: float
) -> list[str]:
    """A line for each batch size: what keeps the time, or what comes nearest.

    Args:
      chosen: of `choose`.
      rows: that it was given.
      budget_ms: as it was given.
    """
    return [
        f"batches of {size}: {_describe(row)}"
        if row
        else f"batches of {size}: none keeps {budget_ms:g} ms; the fastest is "
        + _describe(quickest(rows, size))
        for size, row in chosen.items()
    ]


def _describe(row: Row) -> str:
    text = (
        f"{name_row(row)}, median {row['ms_median']:.3g} ms, p99 {row['ms_p99']:.3g} ms, "
        f"top-1 {format_share(row['top1'])}"
    )
    if row["achieved"] is not None:
        text += f", {format_share(row['achieved'])} of the blocks open"
        text += "" if row["asked"] is None else f" (asked: {format_share(row['asked'])})"
    return text


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    define_checkpoint(values)
    flags.DEFINE_list(
        "batch_sizes", "1,8,64,256", "images per call, several in one table", flag_values=values
    )
    flags.DEFINE_float(
        "budget_ms",
        None,
        "milliseconds that a call may take: answers with the best point for each batch size",
        flag_values=values,
    )
    flags.DEFINE_string(
        "subnet",
        "",
        "operating points, separated by a semicolon; by default all that the workdir is for",
        flag_values=values,
    )
    flags.DEFINE_list("budgets", None, "budgets, for example 0.3,0.6", flag_values=values)
    known = ", ".join(name for name in ENGINES if name != "auto")
    flags.DEFINE_list("engines", [], f"what runs points with gates, of {known}", flag_values=values)
    flags.DEFINE_integer(
        "rounds", ROUNDS, "calls of each row, all in turn", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)
