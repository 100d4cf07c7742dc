"""`levels`: the finest label level at which each operating point is accurate enough."""

from pathlib import Path
from typing import Any

from absl import flags

from jax_elastic.cli.flags import define_checkpoint, parse, parse_budgets, parse_subnets
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import cautions, facts, own_points
from jax_elastic.data.datasets import load as load_data
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.levels import Answer, check_accuracy, check_levels, finest_reaching
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import (
    Column,
    format_count,
    format_interval,
    format_share,
    format_table,
    with_values,
)
from jax_elastic.training.workdir import check_class_names, load_variables, read_config

ABOUT = """\
Evaluates a network of several label levels on the validation split; tells for each operating point
the finest level at which its top-1 is at least --accuracy."""

COLUMNS = (
    Column("subnet", "subnet", left=True),
    Column("asked", "asked", format_share),
    Column("level", "level"),
    Column("level_name", "name", left=True),
    Column("top1", "top-1", format_share),
    Column("top1_ci95", "95 % interval", format_interval),
    Column("macs_mean", "MACs", format_count),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    if values.accuracy is None:
        raise UsageError("--accuracy is missing", "a share of images, for example --accuracy=0.9")
    check_accuracy(values.accuracy)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    check_levels(experiment.network)
    configure(values)
    dataset = load_data(experiment.data, "validation")
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    check_class_names(meta, dataset)
    evaluator = Evaluator(
        experiment.network,
        dataset,
        experiment.data,
        subnets=own_points(workdir, meta, parse_subnets(values.subnet)),
        budgets=parse_budgets(values.budgets),
        batch_size=values.batch_size,
    )
    answers = finest_reaching(evaluator(variables).rows, values.accuracy)
    where = {"data": experiment.data.name, "split": "validation", "step": meta["step"]}
    where |= facts(meta)
    rows = [{**where, "accuracy": values.accuracy, **_row(answer)} for answer in answers]
    if values.json:
        write_json(values.json, "levels", rows)
    if values.json == "-":
        return
    print(
        f"{workdir}, step {meta['step']}: the finest level with {format_share(values.accuracy)} "
        f"of {len(dataset)} validation images"
    )
    for line in cautions(meta.get("recalibrated", {})):
        print(line)
    print(format_table(rows, with_values(COLUMNS, rows)))
    if none := [answer for answer in answers if answer.row is None]:
        print(*map(_told, none), sep="\n")


def _row(answer: Answer) -> dict[str, Any]:
    """An answer as a row; keys of the level are None where there is none."""
    found = answer.row or {}
    keys = ("level", "level_name", "top1", "top1_ci95")
    return {
        "subnet": answer.subnet,
        "asked": answer.asked,
        **{key: found.get(key) for key in keys},
        "n": answer.coarsest["n"],
        "macs_mean": answer.coarsest["macs_mean"],
    }


def _told(answer: Answer) -> str:
    """What an operating point that is not accurate enough reaches."""
    row = answer.coarsest
    budget = "" if answer.asked is None else f" at budget {answer.asked:g}"
    return (
        f"{answer.subnet}{budget} reaches it at no level: {format_share(row['top1'])} "
        f"at the coarsest, {row['level_name']}"
    )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    flags.DEFINE_float("accuracy", None, "top-1 to reach, in (0, 1]", flag_values=values)
    define_checkpoint(values)
    flags.DEFINE_string("subnet", "", "operating points, separated by ;", flag_values=values)
    flags.DEFINE_list("budgets", None, "budgets, for example 0.3,0.6", flag_values=values)
    flags.DEFINE_integer("batch_size", 256, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)
