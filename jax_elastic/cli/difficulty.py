"""How hard images are for another run than the one that is evaluated: ``eval --difficulty``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from jax_elastic.cli.recalibrated import own_points
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.datasets import load as load_data
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.difficulty import (
    LEAST,
    OVER_IMAGES,
    Spent,
    columns_of,
    difficulty_row,
    spent,
)
from jax_elastic.evaluation.evaluate import Evaluation, Evaluator
from jax_elastic.evaluation.plots_difficulty import draw_usage_against_difficulty
from jax_elastic.evaluation.rows import read_json, write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.workdir import check_class_names, load_variables, read_config


def check_same_images(workdir: Path, dataset: Dataset, split: str) -> None:
    """Refuses a run that other images are the split of.

    Args:
      workdir: of the run.
      dataset: the images that are evaluated.
      split: which of the run's splits they should be.

    Raises:
      UsageError: it is of another set, or holds out others, or changes them otherwise.
    """
    config = read_config(workdir).data
    told = _differing(config, dataset, split)
    if told:
        raise UsageError(
            f"--difficulty={workdir} is of {told}", "a run of the same data and the same split"
        )


def _differing(config: DataConfig, dataset: Dataset, split: str) -> str:
    """What tells the images of a run from those that are evaluated; empty where nothing does."""
    if config.name != dataset.name:
        return f"{config.name}, not of {dataset.name}"
    other = load_data(config, split)
    if not np.array_equal(other.images, dataset.images):
        return f"{config.name}, but its {split} split holds other images"
    if not np.array_equal(other.labels[:, 0], dataset.labels[:, 0]):
        return f"{config.name}, but its labels are others"
    return ""


def held_against(found: Evaluation, dataset: Dataset, workdir: str, batch_size: int) -> list[Spent]:
    """What images used and how hard they are; nothing where no image can use more than another.

    Args:
      found: of the network that is evaluated.
      dataset: the images it was given.
      workdir: of the run whose loss tells how hard an image is; empty takes the network's own. Of
        fewer than `LEAST` images nothing is told then.
      batch_size: images per call.

    Raises:
      UsageError: another run is asked for where there is nothing to hold against it, or as
        `losses_of`.
    """
    uses = spent(found)
    if not workdir:
        return uses if len(dataset) >= LEAST else []
    if not uses:
        raise UsageError(
            f"--difficulty={workdir} beside a network of which every image uses as much",
            "a network that drops blocks or chooses points per image",
        )
    return spent(found, losses_of(Path(workdir), dataset, batch_size))


def losses_of(workdir: Path, dataset: Dataset, batch_size: int) -> npt.NDArray[np.float64]:
    """Each image's cross-entropy under the newest checkpoint of a run; (n,).

    Of a run that was recalibrated for one operating point it is that of this point, else of several
    that of the last in `Family.shown`; and of budgets the largest.

    Args:
      workdir: of the run, which `check_same_images` has let pass.
      dataset: the images.
      batch_size: images per call.

    Raises:
      UsageError: there is no checkpoint, or it cannot be evaluated.
    """
    experiment = read_config(workdir)
    variables, meta = load_variables(workdir, experiment)
    check_class_names(meta, dataset)
    network = experiment.network
    evaluator = Evaluator(
        network,
        dataset,
        experiment.data,
        subnets=own_points(workdir, meta, []) or [network.shown[-1]],
        budgets=[max(network.budgets)] if network.budgets else None,
        batch_size=batch_size,
    )
    return evaluator(variables).loss[0]


def tell_use(pairs: Sequence[Spent], path: Path, workdir: str, step: int, title: str) -> Figure:
    """Writes, draws and, where another run was named, prints what images of each quarter use.

    Args:
      pairs: of `held_against`, at least one.
      path: of the file for the rows.
      workdir: of the run whose losses these are; empty for the network's own.
      step: of the network that is evaluated.
      title: stands above the figure.
    """
    rows = [difficulty_row(pair) for pair in pairs]
    of = _name(workdir)
    if path.exists():
        before = read_json(path, "difficulty")[0]["difficulty"] or ""
        if before != workdir:
            print(f"{path} had quarters of the loss of {_name(before)}, replaced")
    told = {"step": step, "difficulty": workdir or None}
    write_json(path, "difficulty", [{**told, **row} for row in rows])
    print(f"{path}: what images use, by quarters of the loss of {of}")
    # Unasked it would be one more table of as many rows, of what the file has, too.
    if workdir:
        print(format_table(rows, columns_of(rows)))
        print(OVER_IMAGES)
    return draw_usage_against_difficulty(pairs, of, title)


def _name(workdir: str) -> str:
    """Whose losses they are, in words."""
    return Path(workdir).resolve().name if workdir else "the network itself"
