"""`predict`: what a trained network says of image files, and what each of them cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from absl import flags

from jax_elastic import rng
from jax_elastic.cli.flags import parse_subnets, parse_with_names
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import DataConfig
from jax_elastic.data.images import ImageFile, UnreadableImage, find_images, read_image
from jax_elastic.elastic.doors import check_budget
from jax_elastic.elastic.family import Array, Family, Prediction
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import usage
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.evaluation.tables import Column, format_count, format_share, format_table
from jax_elastic.inference.engine import ENGINES, Engine, build_engine
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
    subnet = _one_subnet(values.subnet, network)
    _check_budget(network, values.budget)
    variables, meta = load_variables(workdir, experiment)
    engine = build_engine(network, variables, values.engine, [subnet])
    predictor = Predictor(engine, network, data, subnet, values.budget, meta.get("class_names"))

    unreadable: list[UnreadableImage] = []
    rows: list[dict[str, Any]] = []
    for places, images in _batches(paths, data.image_shape, values.batch_size, unreadable):
        rows += predictor(images, places)
    if rows and values.json:
        where = {"data": data.name, "step": meta["step"]}
        write_json(values.json, "predict", [{**where, **row} for row in rows])
    if rows and values.json != "-":
        print(f"{workdir}, step {meta['step']}, operating point {subnet}")
        print(format_table(rows, _columns(rows)))
        for line in _describe_usage(rows, values.budget, network.random):
            print(line)
    if unreadable:
        raise UsageError(
            f"{len(unreadable)} of {len(paths)} files cannot be read: "
            + ", ".join(f"{error.path} ({error.reason})" for error in unreadable)
        )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "of the trained network", flag_values=values)
    flags.DEFINE_float(
        "budget",
        None,
        "the share of the blocks to spend, for networks that take one",
        flag_values=values,
    )
    flags.DEFINE_string("subnet", "", "operating point; the fullest by default", flag_values=values)
    flags.DEFINE_string(
        "engine", "masked", "what runs the network: " + ", ".join(ENGINES), flag_values=values
    )
    flags.DEFINE_integer("batch_size", 64, "images per call", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", None, "rows go here; - for standard output and nothing else", flag_values=values
    )
    define_platform(values)


def _one_subnet(text: str, network: Family) -> Subnet:
    subnets = parse_subnets(text) or [network.subnets.fullest]
    if len(subnets) > 1:
        raise UsageError(f"--subnet={text} names {len(subnets)} operating points", "one")
    network.check(subnets[0])
    return subnets[0]


def _check_budget(network: Family, budget: float | None) -> None:
    """The door's check, told in the words of this command's flag."""
    try:
        check_budget(network, budget)
    except UsageError as error:
        step = "for example --budget=0.6" if network.budgets else "leave --budget out"
        raise UsageError(error.what, error.allowed, step) from None


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


class Predictor:
    """A network at one operating point and budget, with what its answers are called and cost.

    Args:
      engine: of the network.
      network: the family.
      data: how images are normalised.
      subnet: the operating point.
      budget: the share of the blocks to spend, or None.
      class_names: of the first label level; None for their numbers.
    """

    def __init__(
        self,
        engine: Engine,
        network: Family,
        data: DataConfig,
        subnet: Subnet,
        budget: float | None,
        class_names: Sequence[str] | None,
    ):
        self._engine, self._network, self._data = engine, network, data
        self._subnet, self._budget, self._names = subnet, budget, class_names
        costs = CostModel(network, data.image_shape)
        self._cost, self._full = costs.cost(subnet), costs.cost(network.subnets.fullest).full
        self._candidates = np.array([costs.cost(point).full for point in network.candidates], float)

    def __call__(self, images: Sequence[ImageFile], places: Sequence[int]) -> list[dict[str, Any]]:
        """Predicts a batch.

        Args:
          images: in the network's shape.
          places: their places among all images: what random gates are drawn from.

        Returns:
          A row per image: `file, subnet, label` (the class's number), `class` (its name, or the
          number as text), `confidence` (its softmax), `asked`, `blocks` (how many were open),
          `blocks_total`, `achieved` (their share), `opened` (a letter per block, 1 where it was
          open), `macs`, `macs_share` (of the fullest point with every block open), `size`
          ([height, width] of the file) and `changes` (see `ImageFile`). Keys of blocks are None
          without gates.

        Raises:
          UsageError: the logits are not finite.
        """
        batch = normalise(jnp.asarray(np.stack([image.pixels for image in images])), self._data)
        keys = _image_keys(np.array(places, np.int32)) if self._network.random else None
        found = self._engine(batch, self._subnet, self._budget, keys=keys)
        logits = np.asarray(found.logits[0], np.float64)
        if not np.isfinite(logits).all():
            raise UsageError(
                "the network's logits are not finite, so its answers mean nothing",
                next_step="look at how its training ended",
            )
        opened = None if found.gates is None else np.asarray(found.gates) >= 0
        macs = self._macs(found, opened, len(images))
        confidence = _softmax(logits)
        return [
            {
                "file": str(image.path),
                "subnet": str(self._subnet),
                **self._answer(confidence[i]),
                "asked": self._budget,
                **_blocks(None if opened is None else opened[i]),
                "macs": int(macs[i]),
                "macs_share": float(macs[i] / self._full),
                "size": list(image.size),
                "changes": list(image.changes),
            }
            for i, image in enumerate(images)
        ]

    def _answer(self, confidence: npt.NDArray[np.float64]) -> Row:
        label = int(confidence.argmax())
        name = str(label) if self._names is None else self._names[label]
        return {"label": label, "class": name, "confidence": float(confidence[label])}

    def _macs(
        self, found: Prediction, opened: npt.NDArray[np.bool_] | None, size: int
    ) -> npt.NDArray[np.float64]:
        """MACs of each image, (size,)."""
        if found.choice is not None:
            chosen: npt.NDArray[np.float64] = self._candidates[np.asarray(found.choice)]
            return chosen + self._cost.gates
        if opened is not None:
            return self._cost.of(opened)
        return np.full(size, float(self._cost.full))


def _blocks(opened: npt.NDArray[np.bool_] | None) -> Row:
    """What is said of one image's blocks, (N,)."""
    if opened is None:
        return dict.fromkeys(("blocks", "blocks_total", "achieved", "opened"))
    return {
        "blocks": int(opened.sum()),
        "blocks_total": len(opened),
        "achieved": float(opened.mean()),
        "opened": "".join("1" if is_open else "0" for is_open in opened),
    }


@jax.jit
def _image_keys(places: Any) -> Array:
    key = rng.device(0, rng.Stream.PREDICT)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(places)


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def _columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that say something."""
    columns = [
        Column("file", "file", left=True),
        Column("class", "class", left=True),
        Column("confidence", "confidence", format_share),
        Column("blocks", f"of {rows[0]['blocks_total']} blocks"),
        Column("macs", "MACs", format_count),
        Column("macs_share", "of full", format_share),
        Column("changes", "changes", ", ".join, left=True),
    ]
    return [column for column in columns if any(row[column.key] not in (None, []) for row in rows)]


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
