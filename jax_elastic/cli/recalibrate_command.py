"""`recalibrate`: BN statistics of single operating points, each into a workdir of its own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from jax_elastic.cli.flags import define_bank_of, define_checkpoint, parse, parse_subnets
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.borrow import borrow_banks, borrowing
from jax_elastic.elastic.doors import check_budget
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.inference.recalibrate import BATCH_SIZE, recalibrate, whole_batches
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Checkpoints, Meta
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.workdir import (
    CHECKPOINTS,
    check_class_names,
    claim,
    load_variables,
    read_config,
)

IMAGES = 10_000
ABOUT = """\
Estimates the BN statistics of operating points anew, each from training images at that point alone.
For each there is a workdir, OUT/NAME, that eval, predict, latency and load take as any other; the
trained one stays as it is. Statistics that a point shares with others are its own there, so each
workdir is for the point that it is named for."""


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    subnets = parse_subnets(values.subnet)
    if not subnets:
        raise UsageError("--subnet is missing", "operating points, for example --subnet=full")
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    for subnet in subnets:
        experiment.network.check(subnet)
        check_budget(experiment.network, values.budget, subnet)
    dataset = load_data(experiment.data, "train")
    size = whole_batches(len(dataset), values.batch_size, values.images)
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    check_class_names(meta, dataset)
    estimate = partial(
        recalibrate,
        experiment.network,
        images=dataset.images[batch_ids(experiment.seed, 0, 0, len(dataset), size)],
        budget=values.budget,
        batch_size=values.batch_size,
        data=experiment.data,
        mesh=make_mesh(jax.local_devices()),
    )
    how = {"budget": values.budget, "images": size, "batch_size": values.batch_size}
    source = {
        "workdir": str(workdir),
        "checkpoint": values.checkpoint,
        "step": meta["step"],
        "hash": meta["hashes"][meta["item"]],
    }
    rows = []
    for start in _starts(experiment.network, variables, subnets, values.bank_of):
        found = estimate(start.variables, start.subnet)
        row = {"subnet": str(start.subnet), **how, **start.facts(), **source}
        out = Path(values.out or workdir / "recalibrated") / name_of(start.subnet)
        _save(out, experiment, found, meta, row)
        rows.append({**row, "out": str(out)})
        if values.json != "-":
            print(_told(row, out))
    if values.json:
        write_json(values.json, "recalibrate", rows)


class _Start(NamedTuple):
    """What is recalibrated at an operating point, and whether its banks were ever estimated."""

    subnet: Subnet
    variables: Variables
    estimated: bool
    bank_of: Subnet | None

    def facts(self) -> Row:
        """The same for a row."""
        bank_of = None if self.bank_of is None else str(self.bank_of)
        return {"estimated_before": self.estimated, "bank_of": bank_of}


def _starts(
    network: Family, variables: Variables, subnets: Sequence[Subnet], bank_of: str
) -> list[_Start]:
    """A start for each operating point: with borrowed banks where it has none and one is named.

    Raises:
      UsageError: see `borrow_banks`.
    """
    empty = borrowing(network, variables, subnets)
    source = Subnet.parse(bank_of) if bank_of else None
    if source is None:
        return [_Start(subnet, variables, subnet not in empty, None) for subnet in subnets]
    borrow_banks(network, variables, source, subnets)  # refuses what cannot be borrowed at all
    return [
        _Start(subnet, borrow_banks(network, variables, source, (subnet,)), False, source)
        if subnet in empty
        else _Start(subnet, variables, True, None)
        for subnet in subnets
    ]


def _told(row: Row, out: Path) -> str:
    """What was done, and what there is to know of it."""
    told = f"{row['subnet']}, from {row['images']} training images: {out}"
    if row["bank_of"]:
        return told + f"\n  UNSAFE: parameters of its BN banks are those of {row['bank_of']}"
    if not row["estimated_before"]:
        return told + (
            "\n  BN layers that it reads were never trained, so their parameters are those of the "
            "start; --bank_of takes another point's"
        )
    return told


def name_of(subnet: Subnet) -> str:
    """An operating point as the name of a directory, e.g. ``resolution-1-0.7``."""
    return str(subnet).replace(":", "-").replace(",", "-")


def _save(out: Path, experiment: Experiment, variables: Variables, meta: Meta, row: Row) -> None:
    """Writes a workdir that holds one checkpoint, of the step that it comes from."""
    claim(out, experiment)
    own = ("schema", "step", "hashes", "leaves", "item")
    facts: dict[str, Any] = {name: fact for name, fact in meta.items() if name not in own}
    with Checkpoints(out / CHECKPOINTS, keep=1) as checkpoints:
        checkpoints.save(meta["step"], {"variables": variables}, {**facts, "recalibrated": row})


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    define_checkpoint(values)
    flags.DEFINE_string("subnet", "", "operating points, separated by ;", flag_values=values)
    flags.DEFINE_float(
        "budget", None, "share of the blocks, where the network takes one", flag_values=values
    )
    flags.DEFINE_integer(
        "images",
        IMAGES,
        "training images, at most; as many as fill whole batches",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size",
        BATCH_SIZE,
        "images that are normalised together",
        lower_bound=1,
        flag_values=values,
    )
    define_bank_of(values)
    flags.DEFINE_string(
        "out", None, "where the workdirs go; WORKDIR/recalibrated by default", flag_values=values
    )
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)
