"""`compare`: the results of several runs as one table and one set of pictures."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jax_elastic.cli.eval_command import of_split
from jax_elastic.cli.flags import parse
from jax_elastic.errors import UsageError
from jax_elastic.evaluation import plots_compare
from jax_elastic.evaluation.compare import describe_published, join_runs, read_published
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.levels import at_finest
from jax_elastic.evaluation.rows import Row, read_json, write_json
from jax_elastic.evaluation.tables import BUDGET_COLUMNS, Column, format_table, with_values
from jax_elastic.training.workdir import newest_step

ABOUT = """\
Joins what `eval` found of several trained networks: prints one table and draws accuracy against
MACs, accuracy, blocks and FLOPs against the budget, and ranged against fixed networks.
It reads WORKDIR/eval.json (of another --split, eval-SPLIT.json) and evaluates nothing itself;
what was found at another step than that of WORKDIR's newest checkpoint, if any, is refused."""

COLUMNS = (Column("run", "run", left=True), *BUDGET_COLUMNS)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    workdirs = [Path(name) for name in values.workdirs or () if name]
    if not workdirs:
        raise UsageError("--workdirs is missing", "workdirs of evaluated runs: --workdirs=a,b,c")
    labels = _labels(workdirs, values.labels)
    found = [_read(workdir, values.split) for workdir in workdirs]
    rows = join_runs(dict(zip(labels, found, strict=True)))
    if values.published and values.split != "test":
        raise UsageError(
            f"--published beside the {values.split} split",
            "papers print accuracies on test images",
            "leave one of the two flags out",
        )
    file, _, methods = (values.published or "").partition(":")
    published = read_published(file, [m for m in methods.split(",") if m]) if file else []
    if values.json:
        write_json(values.json, "compare", rows)
    if values.json == "-":
        return
    print(format_table(rows, with_values(COLUMNS, rows)))
    paths = _draw(rows, published, Path(values.out))
    print(*paths, sep="\n")
    if file:
        pictures = [path.stem for path in paths]
        print(*describe_published(published, rows[0]["data"], file, pictures), sep="\n")


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "workdirs", None, "of evaluated runs, for example runs/a,runs/b", flag_values=values
    )
    flags.DEFINE_list(
        "labels", None, "their names; those of the folders by default", flag_values=values
    )
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_string(
        "published",
        None,
        "figures of papers to draw beside them, FILE.json[:METHOD,METHOD]; see docs/published",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    flags.DEFINE_string("out", "runs/compare", "pictures go here", flag_values=values)


def _labels(workdirs: Sequence[Path], labels: Sequence[str] | None) -> list[str]:
    """One name a run, no two the same."""
    names = [workdir.resolve().name for workdir in workdirs] if labels is None else list(labels)
    if len(names) != len(workdirs):
        raise UsageError(f"{len(names)} labels for {len(workdirs)} workdirs", "one for each")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(
            f"two runs are called {twice[0]!r}",
            next_step="give each a name of its own: --labels=a,b,c",
        )
    return names


def _read(workdir: Path, split: str) -> list[dict[str, object]]:
    path = of_split(workdir, "eval", split, ".json")
    other = "" if split == "test" else f" --split={split}"
    command = f"jax-elastic eval --workdir={workdir}{other}"
    if not path.exists():
        raise UsageError(f"there is no {path}", next_step=f"evaluate it first: {command}")
    rows = read_json(path, "eval")
    newest = newest_step(workdir)
    older = [row.get("step") for row in rows if row.get("step") != newest]
    if newest is not None and older:
        raise UsageError(
            f"{path} is of step {older[0]}, the newest checkpoint of step {newest}",
            next_step=f"evaluate it again: {command} (should that skip checkpoint {newest} "
            "as damaged, delete it)",
        )
    return rows


def _draw(rows: Sequence[Row], published: Sequence[Row], folder: Path) -> Sequence[Path]:
    """Every picture these rows have data for; of several label levels the finest."""
    rows = at_finest(rows)
    data, split = rows[0]["data"], rows[0]["split"]
    title = f"{data}, {split} split, {rows[0]['n']:,} images"
    beside = [row for row in published if row["data"] == data]
    figures = {"runs_against_macs": plots_compare.draw_runs_against_macs(rows, title, beside)}
    if any(row["asked"] is not None for row in rows):
        figure = plots_compare.draw_runs_against_budget(rows, title, beside)
        figures["runs_against_budget"] = figure
    if plots_compare.has_ranged_and_fixed(rows):
        figures["ranged_against_fixed"] = plots_compare.draw_ranged_against_fixed(rows, title)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]
