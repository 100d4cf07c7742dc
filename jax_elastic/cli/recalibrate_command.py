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
from jax_elastic.cli.recalibrated import cautions, only_point
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.borrow import borrow_banks, borrowing, check_borrowing
from jax_elastic.elastic.doors import check_budget
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.reads import without_others
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.inference.recalibrate import (
    BATCH_SIZE,
    recalibrate,
    shared_batch_size,
    whole_batches,
)
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
For each there is a workdir, OUT/NAME, that eval, predict, latency and levels take: they run its
point and refuse every other, because statistics that it shares with others are its own there. The
trained workdir stays as it is."""


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
    places = {s: Path(values.out or workdir / "recalibrated") / name_of(s) for s in subnets}
    for out in places.values():
        _check_out(out)
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    _check_source(workdir, meta)
    dataset = load_data(experiment.data, "train")
    check_class_names(meta, dataset)
    mesh = make_mesh(jax.local_devices())
    batch_size = values.batch_size or shared_batch_size(mesh.devices.size)
    size = whole_batches(len(dataset), batch_size, values.images)
    estimate = partial(
        recalibrate,
        experiment.network,
        images=dataset.images[batch_ids(experiment.seed, 0, 0, len(dataset), size)],
        budget=values.budget,
        batch_size=batch_size,
        data=experiment.data,
        mesh=mesh,
    )
    how = {"budget": values.budget, "images": size, "batch_size": batch_size}
    source = {
        "workdir": str(workdir),
        "checkpoint": values.checkpoint,
        "step": meta["step"],
        "hash": meta["hashes"][meta["item"]],
    }
    rows = []
    for start in _starts(experiment.network, variables, subnets, values.bank_of):
        found = estimate(start.variables, start.subnet)
        found = without_others(experiment.network, found, start.subnet)
        row = {"subnet": str(start.subnet), **how, **start.facts(), **source}
        out = places[start.subnet]
        _save(out, experiment, found, meta, row)
        rows.append({**row, "out": str(out)})
        if values.json != "-":
            print(f"{row['subnet']}, from {row['images']} training images: {out}")
            for line in cautions(row):
                print(f"  {line}")
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
      UsageError: see `check_borrowing`.
    """
    empty = borrowing(network, variables, subnets)
    source = Subnet.parse(bank_of) if bank_of else None
    if source is None:
        return [_Start(subnet, variables, subnet not in empty, None) for subnet in subnets]
    check_borrowing(network, variables, source, subnets)
    return [
        _Start(subnet, borrow_banks(network, variables, source, (subnet,)), False, source)
        if subnet in empty
        else _Start(subnet, variables, True, None)
        for subnet in subnets
    ]


def _check_out(out: Path) -> None:
    """Refuses a workdir that is in use: what was found of its weights would be told of others.

    Raises:
      UsageError: it has checkpoints.
    """
    if any(path.name.isdecimal() for path in (out / CHECKPOINTS).glob("*")):
        raise UsageError(
            f"{out} has checkpoints already",
            "a directory of no run",
            "take another --out, or delete that one if nobody needs it",
        )


def _check_source(workdir: Path, meta: Meta) -> None:
    """Refuses statistics of one point as the start of another's.

    Raises:
      UsageError: the workdir was itself recalibrated.
    """
    if (only := only_point(meta)) is not None:
        raise UsageError(
            f"{workdir} was itself recalibrated, for {only}",
            "the workdir of a trained network",
            f"take the one that it comes from: --workdir={meta['recalibrated']['workdir']}",
        )


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
        None,
        f"images that are normalised together; by default {BATCH_SIZE}, or as near below as the "
        "devices can share",
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
