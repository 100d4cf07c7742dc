"""`macs`: what the operating points of a network cost per image, from its config alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jax_elastic.cli.flags import CONFIG_HELP, parse, parse_subnets, read_config, split_config
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.train_command import DEFAULT_CONFIG
from jax_elastic.data.datasets import check_levels
from jax_elastic.data.taxonomy import load_taxonomy
from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import Column, format_count, format_table
from jax_elastic.subnet import MANY, Subnet
from jax_elastic.training import workdir as workdirs
from jax_elastic.training.experiment import Experiment

ABOUT = f"""\
Counts MACs (multiply-accumulates of convolutions and linear layers) and parameters of one image.
{CONFIG_HELP}
without --config, that of --workdir, or else {DEFAULT_CONFIG}
Without --all, of a network with more than {MANY} operating points the cheapest and the fullest are
shown, and those of --subnet."""

COLUMNS = (
    Column("subnet", "subnet", left=True),
    Column("macs", "MACs", "{:,}".format),
    Column("executed_macs", "executed", "{:,}".format),
    Column("gates", "of gates", "{:,}".format),
    Column("params", "params", "{:,}".format),
    Column("params_gates", "of gates", "{:,}".format),
    Column("params_bn", "of BN", "{:,}".format),
    Column("params_classifiers", "of classifiers", "{:,}".format),
)

LEGENDS = {
    "executed_macs": "executed: MACs of the form that runs here, which does some layers otherwise",
    "gates": "of gates: of what decides for each image what runs; MACs are those of all gates open",
}
DEAREST = ", of candidates the dearest"


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    config, others = split_config(argv)
    values = parse(others, _define, ABOUT)
    experiment = _experiment(config, values.workdir)
    configure(values)
    subnets = shown(experiment.network, parse_subnets(values.subnet), values.all)
    rows = count(experiment.network, experiment.data.image_shape, subnets)
    if values.json:
        write_json(values.json, "macs", rows)
    if values.json != "-":
        columns = telling(rows)
        legends = explain(columns, experiment.network)
        table = format_table(rows, columns)
        print(table, *legends, *_describe_blocks(rows), sep="\n")


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "subnet",
        "",
        "operating points, separated by ;, for example width:2;width:3",
        flag_values=values,
    )
    flags.DEFINE_boolean("all", False, "every operating point", flag_values=values)
    flags.DEFINE_string("workdir", None, "of a run, in place of --config", flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)


def _experiment(config: list[str], workdir: str | None) -> Experiment:
    if workdir is None:
        experiment, _ = read_config(config, DEFAULT_CONFIG)
        _check_taxonomy(experiment)
        return experiment
    if config:
        raise UsageError(
            f"--workdir={workdir} and {config[0]} both tell a network", "one of the two"
        )
    return workdirs.read_config(Path(workdir))


def _check_taxonomy(experiment: Experiment) -> None:
    """Refuses what training would, as far as it shows without the images."""
    data = experiment.data
    if data.taxonomy:
        taxonomy = load_taxonomy(data.taxonomy)
        check_levels(data.name, taxonomy.counts, taxonomy.levels, experiment.network.classes)


def shown(network: Family, asked: Sequence[Subnet] = (), everything: bool = False) -> list[Subnet]:
    """The operating points that a count shows, each once.

    Args:
      network: the family.
      asked: points that were named.
      everything: show every point of its space, and `Family.further`.

    Returns:
      Those asked for, and where there are more than `MANY` the two ends of the space before them.
      Where none is asked for, `Space.shown` and `Family.further`.

    Raises:
      UsageError: the network lacks one that was named.
    """
    for subnet in asked:
        network.check(subnet)
    space = network.subnets
    if everything:
        others = (*space, *network.further)
    elif not asked:
        others = (*space.shown(), *network.further)
    else:
        others = space.shown() if len(space) > MANY else ()
    return list(dict.fromkeys((*others, *asked)))


def count(
    network: Family, image_shape: tuple[int, ...], subnets: Iterable[Subnet] | None = None
) -> list[dict[str, Any]]:
    """Rows of MACs and parameters, every gate open; of candidates, of which one runs, the dearest.

    Args:
      network: the family.
      image_shape: (H, W, channels).
      subnets: operating points; None for those that are `shown` where none is asked for.

    Returns:
      Per operating point `subnet, macs, executed_macs, flops` (2 per MAC), `fixed`, `blocks`
      (MACs of each gated block), `gates`, `gates_share` (as a share of all other MACs; of a
      network that only drops blocks, those of the plain network), and `params` in all and by kind.

    Raises:
      UsageError: the network lacks a point.
    """
    nominal, executed = CostModel(network, image_shape), CostModel(network, image_shape, True)
    rows = []
    for subnet in shown(network) if subnets is None else subnets:
        cost = nominal.cost(subnet)
        rows.append(
            {
                "subnet": str(subnet),
                "macs": nominal.most(subnet),
                "executed_macs": executed.most(subnet),
                "flops": 2 * nominal.most(subnet),
                "fixed": cost.fixed,
                "blocks": list(cost.blocks),
                "gates": cost.gates,
                "gates_share": cost.gates / nominal.undecided(subnet),
                **nominal.params(subnet),
            }
        )
    return rows


def telling(rows: Sequence[Row]) -> list[Column]:
    """The columns that say something of these rows: executed MACs where they differ, gates if any.

    Args:
      rows: of `count`.
    """
    silent = set()
    if all(row["executed_macs"] == row["macs"] for row in rows):
        silent.add("executed_macs")
    if not any(row["gates"] or row["params_gates"] for row in rows):
        silent |= {"gates", "params_gates"}
    return [column for column in COLUMNS if column.key not in silent]


def explain(columns: Sequence[Column], network: Family) -> list[str]:
    """What stands below the table: a line for each column that does not explain itself.

    Args:
      columns: of `telling`.
      network: the family that was counted; of one with candidates an image runs but one of them.
    """
    keys = [column.key for column in columns if column.key in LEGENDS]
    chosen = DEAREST if network.candidates else ""
    return [LEGENDS[key] + (chosen if key == "gates" else "") for key in keys]


def _describe_blocks(rows: Sequence[Row]) -> list[str]:
    """What skipping each block saves, for networks with gates."""
    lines = []
    for row in rows:
        if row["blocks"]:
            blocks = "  ".join(f"{n}: {format_count(b)}" for n, b in enumerate(row["blocks"], 1))
            fixed, share = format_count(row["fixed"]), f"{100 * row['gates_share']:.2f} %"
            lines.append(f"{row['subnet']}: fixed {fixed}, gates {share} of all other MACs")
            lines.append(f"  blocks {blocks}")
    return lines
