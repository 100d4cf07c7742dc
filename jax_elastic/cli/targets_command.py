"""`targets`: which operating point suits each training image best, for a network that chooses."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jax_elastic.cli.flags import parse, parse_subnets
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import own_points
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.targets import Targets, read_targets
from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import Column, format_count, format_share, format_table
from jax_elastic.inference.candidates import from_search
from jax_elastic.inference.targets import by_cost, check_choice, measure, rows_of, some_images
from jax_elastic.subnet import Subnet
from jax_elastic.training.processes import silent
from jax_elastic.training.workdir import check_class_names, load_variables, read_config

IMAGES = 50_000
CANDIDATES = 16
SAVE_EVERY = 16  # batches
ABOUT = f"""\
Runs random training images at several operating points of a trained network, and keeps in
WORKDIR/targets.npz by which of them the true class of each is likeliest: what a network learns
that chooses an operating point for each image. Started again, it goes on where it stands.
The candidates are those of --subnet, or the Pareto front of WORKDIR/search.json, which the command
search leaves, thinned to {CANDIDATES}. WORKDIR/targets.json tells how often each is the best."""

COLUMNS = (
    Column("subnet", "candidate", left=True),
    Column("macs", "MACs", format_count),
    Column("best_share", "best for", format_share),
    Column("probability", "true class", format_share),
    Column("top1", "top-1", format_share),
    Column("better", "better", format_share),
    Column("rescued", "rescues", format_share),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, ABOUT)
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    workdir = Path(values.workdir)
    out = Path(values.out or workdir / "targets.npz")
    if out.suffix != ".npz":
        raise UsageError(f"--out={out} is no name of a .npz file", "for example targets.npz")
    configure(values)
    experiment = read_config(workdir)
    network = experiment.network
    variables, meta = load_variables(workdir, experiment)
    checkpoint = meta["hashes"][meta["item"]]
    points = _candidates(values, workdir, network, checkpoint)
    check_choice(network, variables, own_points(workdir, meta, points))
    dataset = load_data(experiment.data, "train")
    check_class_names(meta, dataset)
    macs = by_cost(CostModel(network, experiment.data.image_shape), points)
    ids = some_images(len(dataset), values.images, experiment.seed)
    found = Targets.begin(ids, tuple(map(str, macs)), checkpoint, dataset.fingerprint)
    found = _resumed(found, out)
    tell = silent if values.json == "-" else print
    batches = measure(network, variables, dataset, experiment.data, found, values.batch_size)
    for done, found in enumerate(batches, 1):
        if done % SAVE_EVERY == 0:
            found.write(out)
            tell(f"{found.done:,} of {len(ids):,} images")
    found.write(out)
    where = {"data": experiment.data.name, "split": "train", "step": meta["step"]}
    where |= {"hash": checkpoint, "seed": experiment.seed}
    rows = [{**where, **row} for row in rows_of(found, list(macs.values()))]
    write_json(values.json or out.with_suffix(".json"), "targets", rows)
    tell(f"{workdir}, step {meta['step']}: targets of {found.done:,} training images in {out}")
    tell(format_table(rows, COLUMNS))
    for line in _motive(rows):
        tell(line)
    tell(f"next: {_next(workdir, out, found.candidates)}")


def _candidates(
    values: flags.FlagValues, workdir: Path, network: Family, checkpoint: str
) -> list[Subnet]:
    """The operating points of `--subnet`, or those that a search found.

    Raises:
      UsageError: there are neither, too many are named, or the network lacks one.
    """
    asked = list(dict.fromkeys(parse_subnets(values.subnet)))
    for point in asked:
        network.check(point)
    if len(asked) > values.max_candidates:
        raise UsageError(
            f"--subnet names {len(asked)} operating points",
            f"--max_candidates={values.max_candidates} or fewer",
        )
    if asked:
        return asked
    path = Path(workdir) / "search.json"
    if not path.exists():
        raise UsageError(
            f"there are no candidates: --subnet is empty and there is no {path}",
            "two operating points or more",
            "name them, --subnet='a;b;c', or let their front be found: python -m jax_elastic "
            f"search {shlex.quote(f'--workdir={workdir}')}",
        )
    return list(from_search(path, checkpoint, values.max_candidates))


def _resumed(begun: Targets, out: Path) -> Targets:
    """What a file already has of the same targets.

    Raises:
      UsageError: it has others.
    """
    if not out.exists():
        return begun
    there = read_targets(out)
    if found := there.differences(begun):
        raise UsageError(
            f"{out} has targets already, of other {' and '.join(found)}",
            next_step="take another --out, or delete that file if nobody needs it",
        )
    return there


def _motive(rows: Sequence[Row]) -> list[str]:
    """What choosing could be worth, in words."""
    fullest, one = rows[-1]["subnet"], rows[0]
    return [
        "better: it gives the true class a higher probability than the most expensive candidate, "
        f"{fullest}, does;",
        "rescues: it is right where that one is wrong. Some cheaper candidate is better for "
        f"{format_share(one['cheaper_better'])} of the images and rescues "
        f"{format_share(one['cheaper_rescues'])}.",
        f"to choose, every image pays for {one['subnet']} and for the learner beside its candidate",
    ]


def _next(workdir: Path, out: Path, candidates: Sequence[str]) -> str:
    """The command that trains a network which chooses."""
    given = {
        "config": "configs/FILE.py:adapt",
        "config.init_from": workdir,
        "config.data.targets": out,
        "config.network.pool": ";".join(candidates),
        "workdir": f"{workdir}-choosing",
    }
    return shlex.join(["python", "train.py", *(f"--{name}={v}" for name, v in given.items())])


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    flags.DEFINE_string(
        "subnet", "", "the candidates, separated by ;; else those of a search", flag_values=values
    )
    flags.DEFINE_integer("max_candidates", CANDIDATES, "at most", lower_bound=2, flag_values=values)
    flags.DEFINE_integer(
        "images", IMAGES, "random training images, at most", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("batch_size", 256, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "out", None, "where the targets go; WORKDIR/targets.npz by default", flag_values=values
    )
    flags.DEFINE_string(
        "json",
        None,
        "rows go here, not beside the targets; - for standard output and nothing else",
        flag_values=values,
    )
    define_platform(values)
