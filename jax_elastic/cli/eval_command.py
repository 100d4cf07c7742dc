"""`eval`: what a trained network gives at each budget or operating point, as table and pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from jax_elastic.cli.flags import parse, parse_budgets, parse_subnets
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.datasets import load as load_data
from jax_elastic.errors import UsageError
from jax_elastic.evaluation import plots
from jax_elastic.evaluation.evaluate import Evaluation, Evaluator
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.workdir import load_variables, read_config

ABOUT = """\
Evaluates a trained network on the test split; writes WORKDIR/eval.json and WORKDIR/plots
(of another --split, eval-SPLIT.json and plots-SPLIT)."""


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    variables, meta = load_variables(workdir, experiment)
    evaluator = Evaluator(
        experiment.network,
        load_data(experiment.data, values.split),
        experiment.data,
        subnets=parse_subnets(values.subnet),
        budgets=parse_budgets(values.budgets),
        batch_size=values.batch_size,
    )
    found = evaluator(variables)
    suffix = "" if values.split == "test" else f"-{values.split}"
    where = {"data": experiment.data.name, "split": values.split, "step": meta["step"]}
    rows = [{**where, **row} for row in found.rows]
    write_json(values.json or workdir / f"eval{suffix}.json", "eval", rows)
    if values.json == "-":
        return
    print(f"{workdir}, step {meta['step']}: {len(found.opened)} rows on the {values.split} split")
    print(format_table(found.rows))
    for path in _draw(found, experiment, workdir / f"plots{suffix}", values.split):
        print(path)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    flags.DEFINE_string("subnet", "", "operating points, separated by ;", flag_values=values)
    flags.DEFINE_list("budgets", None, "budgets, for example 0.3,0.6", flag_values=values)
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_integer("batch_size", 256, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)


def _draw(found: Evaluation, experiment: Experiment, folder: Path, split: str) -> Sequence[Path]:
    """Every picture these rows have data for."""
    title = f"{type(experiment.network).__name__} on {experiment.data.name}, {split} split"
    paths = [plots.accuracy_against_macs(found.rows, folder / "accuracy_against_macs.png", title)]
    asked = [(row, o) for row, o in zip(found.rows, found.opened, strict=True) if o is not None]
    if not asked or len({row["subnet"] for row, _ in asked}) > 1:
        return paths
    rows = [row for row, _ in asked]
    if any(row["asked"] is None for row in rows):
        return paths
    budgets = [row["asked"] for row in rows]
    opened = np.stack([o for _, o in asked])  # (budgets, images, blocks)
    paths += [
        plots.budget_against_usage(rows, folder / "budget_against_usage.png", title),
        plots.block_usage_map(opened.mean(1), budgets, folder / "block_usage_map.png", title),
        plots.per_image_usage(
            opened.mean(2), budgets, folder / "per_image_usage.png", title, opened.shape[2]
        ),
    ]
    return paths
