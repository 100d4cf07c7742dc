"""How hard images are for another run than the one that is evaluated: ``eval --difficulty``."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from jax_elastic.cli.recalibrated import own_points
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.datasets import load as load_data
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
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
    other = load_data(config, split)
    if other.name != dataset.name:
        what = f"of {other.name}, not of {dataset.name}"
    elif other.images.shape != dataset.images.shape or (other.images != dataset.images).any():
        what = f"of {dataset.name}, but its {split} split holds other images"
    elif (other.labels[:, 0] != dataset.labels[:, 0]).any():
        what = f"of {dataset.name}, but its labels are others"
    else:
        return
    raise UsageError(
        f"--difficulty={workdir} is {what}", "a run of the same data and the same split"
    )


def losses_of(workdir: Path, dataset: Dataset, batch_size: int) -> npt.NDArray[np.float64]:
    """Each image's cross-entropy under the newest checkpoint of a run, at its last point; (n,).

    A network that takes budgets is asked for all blocks.

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
