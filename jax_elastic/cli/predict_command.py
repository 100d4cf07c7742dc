"""`predict`: what a trained network says of image files, and what each of them cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from jax_elastic.cli.flags import define_checkpoint, parse_subnets, parse_with_names
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.recalibrated import cautions, facts, own_points
from jax_elastic.data.images import ImageFile, UnreadableImage, find_images, read_image
from jax_elastic.elastic.doors import check_budget
from jax_elastic.elastic.family import Family
from jax_elastic.elastic.points import couples
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import Column, format_count, format_share, format_table
from jax_elastic.evaluation.usage import usage
from jax_elastic.inference.engine import ENGINES, build_engine
from jax_elastic.inference.predict import Predictor
from jax_elastic.subnet import Subnet
from jax_elastic.training.workdir import load_variables, read_config

ABOUT = """\
usage: jax-elastic predict IMAGES... --workdir=RUN [--budget=0.6]
Says class, confidence and cost of each image.
IMAGES are files, folders (all images below them that are not hidden), or globs such as
'photos/**/*.png'. They are turned upright by their EXIF data, laid on white where they are
transparent, made grey or RGB and resized to what the network takes, whatever their proportions;
of several frames the first is taken, of 16 bits the upper eight, and no colour profile is applied.
The column "changes" tells which of this was done (sizes as height x width). Files that cannot be
read are named at the end, with exit code 2."""


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values, names = parse_with_names(argv, _define, ABOUT, "IMAGES")
    if values.workdir is None:
        raise UsageError("--workdir is missing", "the workdir of a trained network")
    paths = find_images(names)
    configure(values)
    workdir = Path(values.workdir)
    experiment = read_config(workdir)
    network, data = experiment.network, experiment.data
    asked = _at_most_one(values.subnet, network)
    variables, meta = load_variables(workdir, experiment, values.checkpoint)
    (subnet,) = own_points(workdir, meta, asked) or [network.shown[-1]]
    check_budget(network, values.budget, subnet)
    batch_size = min(values.batch_size, len(paths))
    engine = build_engine(network, variables, values.engine, [subnet], batch_size=batch_size)
    predictor = Predictor(engine, network, data, subnet, values.budget, meta.get("class_names"))

    unreadable: list[UnreadableImage] = []
    rows: list[dict[str, Any]] = []
    for places, images in _batches(paths, data.image_shape, values.batch_size, unreadable):
        rows += predictor(images, places)
    if rows and values.json:
        where = {"data": data.name, "step": meta["step"], **facts(meta)}
        write_json(values.json, "predict", [{**where, **row} for row in rows])
    if rows and values.json != "-":
        # A capacity opens its share, whatever the budget that gates are asked with.
        budget = None if couples(subnet) else values.budget
        print(f"{workdir}, step {meta['step']}, operating point {subnet}")
        for line in cautions(meta.get("recalibrated", {})):
            print(line)
        print(format_table(rows, _columns(rows)))
        for line in (*_describe_choices(rows), *_describe_usage(rows, budget, network.random)):
            print(line)
        if values.engine != "masked":
            print(engine.why)
    if unreadable:
        raise UsageError(
            f"{len(unreadable)} of {len(paths)} files cannot be read: "
            + ", ".join(f"{error.path} ({error.reason})" for error in unreadable)
        )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    define_checkpoint(values)
    flags.DEFINE_float(
        "budget",
        None,
        "the share of the blocks to spend, for networks that take one",
        flag_values=values,
    )
    flags.DEFINE_string(
        "subnet",
        "",
        "operating point; by default the fullest that eval shows, or the only one of the workdir",
        flag_values=values,
    )
    flags.DEFINE_string(
        "engine",
        "masked",
        "what runs the network; the default repeats its bits: " + ", ".join(ENGINES),
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 64, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)


def _at_most_one(text: str, network: Family) -> list[Subnet]:
    """The operating point of `--subnet`, if there is one."""
    subnets = parse_subnets(text)
    if len(subnets) > 1:
        raise UsageError(f"--subnet={text} names {len(subnets)} operating points", "one")
    for subnet in subnets:
        network.check(subnet)
    return subnets


def _batches(
    paths: Sequence[Path],
    image_shape: tuple[int, ...],
    batch_size: int,
    unreadable: list[UnreadableImage],
) -> Iterator[tuple[list[int], list[ImageFile]]]:
    """The images that can be read, with their places in `paths`, in full batches but the last.

    So at most two programs are compiled. `unreadable` takes up the errors of the others.
    """
    places: list[int] = []
    images: list[ImageFile] = []
    for place, path in enumerate(paths):
        try:
            images.append(read_image(path, image_shape))
            places.append(place)
        except UnreadableImage as error:
            unreadable.append(error)
        if len(images) == batch_size:
            yield places, images
            places, images = [], []
    if images:
        yield places, images


def _columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that say something."""
    columns = [
        Column("file", "file", left=True),
        Column("class", "class", left=True),
        Column("confidence", "confidence", format_share),
        Column("blocks", f"of {rows[0]['blocks_total']} blocks"),
        Column("choice", "chosen", left=True),
        Column("macs", "MACs", format_count),
        Column("macs_share", "of full", format_share),
        Column("changes", "changes", ", ".join, left=True),
    ]
    return [
        column for column in columns if any(row.get(column.key) not in (None, []) for row in rows)
    ]


def _describe_choices(rows: Sequence[Row]) -> list[str]:
    """What the columns of MACs hold where images choose; nothing where they do not."""
    if rows[0]["choice"] is None:
        return []
    return [
        "MACs have in them what it takes to choose; full is the most that an image can cost, "
        "choosing included"
    ]


def _describe_usage(rows: Sequence[Row], budget: float | None, random: bool) -> list[str]:
    """What the images used in the mean, beside what was asked (law 5); none without gates."""
    if rows[0]["opened"] is None:
        return []
    opened = np.array([[letter == "1" for letter in row["opened"]] for row in rows])
    found = usage(opened, budget)
    text = f"open on average: {format_share(found['achieved'])} of the blocks"
    text += (
        f" (std {format_share(found['achieved_std'])}, p99 {format_share(found['achieved_p99'])})"
    )
    if budget is not None:
        text += f"; asked: {format_share(budget)}, error {format_share(found['tracking_error'])}"
        text += "" if found["reached"] else ", not reached"
    lines = [text]
    if random:
        lines.append("the gates are random: each image was drawn once")
    return lines
