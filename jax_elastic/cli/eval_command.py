"""`eval`: what a trained network gives at each budget or operating point, as table and pictures."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jax_elastic import rng
from jax_elastic.cli.difficulty import check_same_images, held_against, tell_use
from jax_elastic.cli.flags import (
    define_bank_of,
    define_checkpoint,
    parse,
    parse_budgets,
    parse_subnets,
)
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import borrowed_line, cautions, facts, own_points
from jax_elastic.data.datasets import load as load_data
from jax_elastic.elastic.borrow import borrow_banks, borrowing
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.branches import branch_rows
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_anytime import draw_branch_norms
from jax_elastic.evaluation.plots_run import draw_run
from jax_elastic.evaluation.rows import Row, read_json, write_json
from jax_elastic.evaluation.tables import describe_choices, describe_shares, format_table
from jax_elastic.evaluation.usage import describe_never
from jax_elastic.subnet import MANY, Subnet
from jax_elastic.training.workdir import (
    check_class_names,
    load_variables,
    read_config,
    unfinished,
)

ABOUT = f"""\
Evaluates a trained network on the test split; writes WORKDIR/eval.json and WORKDIR/plots
(of another --split, eval-SPLIT.json and plots-SPLIT; of the best --checkpoint, eval-best.json; with
--bank_of, here or when it was recalibrated, eval-borrowed.json).
Where images use more or less of a network, WORKDIR/difficulty.json tells how much the easiest and
the hardest quarter of them use: by their loss, or by that of the network in --difficulty=WORKDIR.
nFLOPs are the mean MACs as a share of those with every block open and nothing that decides.
Of a network whose blocks have branches, WORKDIR/branches.json tells what each branch carries.
Of a network with more than {MANY} operating points the cheapest and the fullest are evaluated, of
one trained for a single point that point; or those of --subnet and --sample. Of a network in which
images choose also each candidate by itself. What the file had before is replaced, and said where
that were other points; --json=FILE writes elsewhere."""


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    if values.difficulty and values.json == "-":
        raise UsageError(
            "--difficulty beside --json=-, which writes the rows of accuracies and nothing else",
            next_step="leave one of the two flags out",
        )
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    dataset = load_data(experiment.data, values.split)
    check_class_names(meta, dataset)
    if values.difficulty:
        check_same_images(Path(values.difficulty), dataset, values.split)
    asked = points(experiment.network, parse_subnets(values.subnet), values.sample)
    subnets = own_points(workdir, meta, asked) or by_default(experiment.network)
    borrowed: tuple[str, ...] = ()
    if values.bank_of:
        # Also of a network trained for one point: it is the others whose banks are empty.
        subnets = subnets or list(experiment.network.subnets.shown())
        variables, borrowed = _borrow(experiment.network, variables, values.bank_of, subnets)
    evaluator = Evaluator(
        experiment.network,
        dataset,
        experiment.data,
        subnets=subnets,
        budgets=parse_budgets(values.budgets),
        batch_size=values.batch_size,
    )
    found = evaluator(variables)
    pairs = held_against(found, dataset, values.difficulty, values.batch_size)
    where = {"data": experiment.data.name, "split": values.split, "step": meta["step"]}
    where["checkpoint"] = values.checkpoint
    rows = [{**where, **facts(meta), **row} for row in found.rows]
    if values.bank_of:
        rows = [
            {**row, "bank_of": values.bank_of if row["subnet"] in borrowed else None}
            for row in rows
        ]
    kind = "" if values.checkpoint == "newest" else f"-{values.checkpoint}"
    kind += "-borrowed" if values.bank_of or facts(meta).get("bank_of") else ""
    json = Path(values.json or of_split(workdir, f"eval{kind}", values.split, ".json"))
    lost = replaced(json, rows)
    write_json(values.json or json, "eval", rows)
    if values.json == "-":
        return
    step = f"step {meta['step']}{', the best' if values.checkpoint == 'best' else ''}"
    count = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
    print(f"{workdir}, {step}: {count} on the {values.split} split")
    hint = unfinished(meta, experiment.patience) if values.checkpoint == "newest" else ""
    for line in filter(None, (hint, lost)):
        print(line)
    if borrowed:
        print(borrowed_line(borrowed, values.bank_of))
    for line in cautions(meta.get("recalibrated", {})):
        print(line)
    print(format_table(found.rows))
    choices = describe_choices(found.rows, experiment.network.candidates)
    told = (describe_shares(found.rows), choices, describe_never(found.rows))
    for line in itertools.chain(*told):
        print(line)
    folder = of_split(workdir, f"plots{kind}", values.split)
    title = f"{type(experiment.network).__name__} on {experiment.data.name}, {values.split} split"
    candidates = tuple(map(str, experiment.network.candidates))
    size = len(experiment.network.subnets)
    figures = draw_run(found, dataset, title, size, candidates)
    branches = branch_rows(variables)
    if branches:
        of_step = [{"step": meta["step"], **row} for row in branches]
        write_json(workdir / f"branches{kind}.json", "branches", of_step)
        named = [{"run": type(experiment.network).__name__, **row} for row in branches]
        figures["branch_norms"] = draw_branch_norms(named, f"{experiment.data.name}, {step}")
    if pairs:
        path = of_split(workdir, f"difficulty{kind}", values.split, ".json")
        drawn = tell_use(pairs, path, values.difficulty, meta["step"], title)
        figures["usage_against_difficulty"] = drawn
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        if isinstance(figure, str):
            path.unlink(missing_ok=True)  # of an evaluation before, which had the data for it
            print(f"no {path}: {figure}")
        else:
            print(save_figure(figure, path))


def by_default(network: Family) -> list[Subnet]:
    """What is evaluated where nobody asks: where images choose, also what they choose among.

    Else it is left to the evaluator.
    """
    return [*network.candidates, *network.shown] if network.candidates else []


def _borrow(
    network: Family, variables: Variables, bank_of: str, points: Sequence[Subnet]
) -> tuple[Variables, tuple[str, ...]]:
    """The variables with banks filled, see `borrow_banks`; and the points for which they are."""
    told = tuple(map(str, borrowing(network, variables, points)))
    return borrow_banks(network, variables, Subnet.parse(bank_of), points), told


def points(network: Family, asked: Sequence[Subnet], sample: int | None) -> list[Subnet]:
    """The operating points that are asked for, each once; none leaves them to the evaluator.

    Args:
      network: the family.
      asked: points that were named.
      sample: how many to draw from all, uniformly; the same in every run, so that runs which have
        the same points can be compared.

    Raises:
      UsageError: the network has fewer.
    """
    drawn: tuple[Subnet, ...] = ()
    if sample is not None:
        drawn = network.subnets.several(sample, rng.host(0, rng.Stream.POINTS))
    return list(dict.fromkeys((*drawn, *asked)))


def replaced(path: Path, rows: Sequence[Row]) -> str:
    """What to say of rows that a file has and that others take the place of; empty without such.

    Args:
      path: of the file, which need not be there.
      rows: that are written there.
    """
    if not path.is_file():
        return ""
    try:
        before = read_json(path, "eval")
    except UsageError:
        return ""  # what cannot be read is no loss
    told = {_asked(row) for row in rows}
    lost = sum(_asked(row) not in told for row in before)
    return f"{path} had {lost} other row{'s' if lost > 1 else ''}, replaced" if lost else ""


def _asked(row: Row) -> tuple[Any, ...]:
    return row.get("subnet"), row.get("asked"), row.get("level")


def of_split(workdir: Path, name: str, split: str, suffix: str = "") -> Path:
    """Where a workdir keeps what was found on a split: ``eval.json``, ``eval-train.json``, ..."""
    return workdir / f"{name}{'' if split == 'test' else f'-{split}'}{suffix}"


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    define_checkpoint(values)
    flags.DEFINE_string("subnet", "", "operating points, separated by ;", flag_values=values)
    flags.DEFINE_integer(
        "sample", None, "operating points, drawn from all; always the same", flag_values=values
    )
    flags.DEFINE_list("budgets", None, "budgets, for example 0.3,0.6", flag_values=values)
    define_bank_of(values)
    flags.DEFINE_string(
        "difficulty",
        "",
        "workdir of a network whose loss tells how hard an image is; by default this one's does",
        flag_values=values,
    )
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_integer("batch_size", 256, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)
