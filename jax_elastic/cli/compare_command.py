"""`compare`: the results of several runs as one table and one set of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jax_elastic.cli.eval_command import of_split
from jax_elastic.cli.flags import parse
from jax_elastic.cli.recalibrated import cautions_of
from jax_elastic.errors import UsageError
from jax_elastic.evaluation import plots_anytime, plots_compare, plots_space
from jax_elastic.evaluation.compare import describe_published, join_runs, read_published
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.gradients import (
    Gradients,
    describe_gradients,
    has_gradients,
    read_gradients,
    with_gradients,
)
from jax_elastic.evaluation.levels import at_finest
from jax_elastic.evaluation.plots_gradients import by_blocks, draw_blocks_beside_gradients
from jax_elastic.evaluation.rows import Row, read_json, write_json
from jax_elastic.evaluation.tables import BUDGET_COLUMNS, Column, format_table, with_values
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.workdir import METRICS, newest_step, read_config

ABOUT = """\
Joins what `eval` found of several trained networks: prints one table and draws accuracy against
MACs, error against MACs of operating points along one axis, accuracy, blocks and FLOPs against the
budget, ranged against fixed networks, the best of many combinations, and what branches carry.
Where a run measured gradients (config.runtime.gradients), the share of the images that open each
block of the others stands beside them, with Spearman's rank correlation over the blocks.
It reads WORKDIR/eval.json (of another --split, eval-SPLIT.json), WORKDIR/branches.json and
WORKDIR/metrics.jsonl and evaluates nothing itself; what was found at another step than that of
WORKDIR's newest checkpoint, if any, is refused. One of --workdirs may also be a file that `eval`
wrote; it is taken as it is."""

OWN_NAMES = "give each a name of its own: --labels=a,b,c"
COLUMNS = (Column("run", "run", left=True), *BUDGET_COLUMNS)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    workdirs = [Path(name) for name in values.workdirs or () if name]
    if not workdirs:
        raise UsageError("--workdirs is missing", "workdirs of evaluated runs: --workdirs=a,b,c")
    labels = _labels(workdirs, values.labels)
    found = [_read(workdir, values.split) for workdir in workdirs]
    rows = join_runs(_by_label(labels, workdirs, found))
    branches = _branches(workdirs, labels)
    gradients = _gradients(workdirs, labels)
    rows = with_gradients(rows, gradients)
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
    for label, own in zip(labels, found, strict=True):
        for line in cautions_of(own):
            print(f"{label}: {line}")
    for line in describe_gradients(at_finest(rows), gradients):
        print(line)
    paths = _draw(rows, published, branches, Path(values.out))
    print(*paths, sep="\n")
    if file:
        pictures = [path.stem for path in paths]
        print(*describe_published(published, rows[0]["data"], file, pictures), sep="\n")


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "workdirs",
        None,
        "of evaluated runs, or files that `eval` wrote, for example runs/a,runs/b/eval-best.json",
        flag_values=values,
    )
    flags.DEFINE_list(
        "labels",
        None,
        "their names, by default those of the folders, with as much of the path as tells them "
        "apart; networks of different MACs may share one: then they are the points of one curve",
        flag_values=values,
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
    """One name a run; only if asked for are two the same."""
    names = _own_names(workdirs) if labels is None else list(labels)
    if len(names) != len(workdirs):
        raise UsageError(f"{len(names)} labels for {len(workdirs)} workdirs", "one for each")
    twice = [name for name in names if names.count(name) > 1]
    if twice and labels is None:
        raise UsageError(f"two runs are called {twice[0]!r}", next_step=OWN_NAMES)
    return names


def _own_names(workdirs: Sequence[Path]) -> list[str]:
    """The last part of each path, of a file the last two; more of those that then are alike."""
    paths = [workdir.resolve() for workdir in workdirs]
    parts = [path.with_suffix("").parts if _is_file(path) else path.parts for path in paths]

    def alone(own: tuple[str, ...], n: int) -> bool:
        return sum(other[-n:] == own[-n:] for other in parts) == 1

    names = []
    for path, own in zip(paths, parts, strict=True):
        least = 2 if _is_file(path) else 1
        lengths = range(least, len(own) + 1)
        n = next((n for n in lengths if alone(own, n)), least)
        names.append("/".join(own[-n:]))
    return names


def _is_file(workdir: Path) -> bool:
    """Whether one of `--workdirs` is a file of what was found."""
    return workdir.suffix == ".json"


def _by_label(
    labels: Sequence[str], workdirs: Sequence[Path], found: Sequence[list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each name; those of several runs are the points of one curve."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for label, workdir, rows in zip(labels, workdirs, found, strict=True):
        own = runs.setdefault(label, [])
        taken = {(row.get("level"), row.get("macs_mean")) for row in own}
        again = any((row.get("level"), row.get("macs_mean")) in taken for row in rows)
        asked = any(row.get("asked") is not None for row in (*own, *rows))
        if own and (again or asked):
            raise UsageError(
                f"two runs are called {label!r}",
                "one name only for networks of different MACs that ask for no budget",
                OWN_NAMES,
            )
        own += ({**row, "workdir": str(workdir)} for row in rows)
    return runs


def _read(workdir: Path, split: str) -> list[dict[str, Any]]:
    if _is_file(workdir):
        return read_json(workdir, "eval")
    path = of_split(workdir, "eval", split, ".json")
    other = "" if split == "test" else f" --split={split}"
    command = f"jax-elastic eval --workdir={workdir}{other}"
    if not path.exists():
        raise UsageError(f"there is no {path}", next_step=f"evaluate it first: {command}")
    return _of_newest(workdir, path, "eval", command)


def _branches(workdirs: Sequence[Path], labels: Sequence[str]) -> list[dict[str, Any]]:
    """What branches carry, of the networks that have some."""
    found = []
    for workdir, label in zip(workdirs, labels, strict=True):
        path = workdir / "branches.json"
        if path.exists():
            rows = _of_newest(workdir, path, "branches", f"jax-elastic eval --workdir={workdir}")
            found += [{"run": _alone(workdir, label, labels), **row} for row in rows]
    return found


def _gradients(workdirs: Sequence[Path], labels: Sequence[str]) -> list[Gradients]:
    """The gradients of the runs that measured some."""
    found = []
    for workdir, label in zip(workdirs, labels, strict=True):
        rows = [] if _is_file(workdir) else MetricsFile(workdir / METRICS).rows()
        if any(has_gradients(row) for row in rows):
            network = read_config(workdir).network
            segments = [segment.name for segment in network.segments(network.subnets.fullest)]
            found.append(read_gradients(_alone(workdir, label, labels), segments, rows))
    return found


def _alone(workdir: Path, label: str, labels: Sequence[str]) -> str:
    """What one run is called where several may share a label."""
    return label if labels.count(label) == 1 else workdir.resolve().name


def _of_newest(workdir: Path, path: Path, kind: str, command: str) -> list[dict[str, Any]]:
    """The rows of a file that `eval` wrote of the newest checkpoint."""
    rows = read_json(path, kind)
    newest = newest_step(workdir)
    older = [row.get("step") for row in rows if row.get("step") != newest]
    if newest is not None and older:
        raise UsageError(
            f"{path} is of step {older[0]}, the newest checkpoint of step {newest}",
            next_step=f"evaluate it again: {command} (should that skip checkpoint {newest} "
            "as damaged, delete it)",
        )
    return rows


def _draw(
    rows: Sequence[Row], published: Sequence[Row], branches: Sequence[Row], folder: Path
) -> Sequence[Path]:
    """Every picture these rows have data for; of several label levels the finest."""
    rows = at_finest(rows)
    data, split = rows[0]["data"], rows[0]["split"]
    title = f"{data}, {split} split, {rows[0]['n']:,} images"
    beside = [row for row in published if row["data"] == data]
    figures = {"runs_against_macs": plots_compare.draw_runs_against_macs(rows, title, beside)}
    if plots_anytime.has_curves(rows):
        figure = plots_anytime.draw_error_against_macs(rows, title, beside)
        figures["error_against_macs"] = figure
    if plots_space.has_front(rows):
        figures["fronts"] = plots_space.draw_fronts(rows, title)
    if any(row["asked"] is not None for row in rows):
        figure = plots_compare.draw_runs_against_budget(rows, title, beside)
        figures["runs_against_budget"] = figure
    if plots_compare.has_ranged_and_fixed(rows):
        figures["ranged_against_fixed"] = plots_compare.draw_ranged_against_fixed(rows, title)
    if branches:
        figures["branch_norms"] = plots_anytime.draw_branch_norms(branches, f"{data}, weights")
    for number, own in enumerate(by_blocks(rows).values(), 1):
        name = f"blocks_beside_gradients{f'_{number}' if number > 1 else ''}"
        figures[name] = draw_blocks_beside_gradients(own, title)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]
