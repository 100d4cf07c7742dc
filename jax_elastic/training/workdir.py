"""The directory of a run: its resolved config, checkpoints, metrics and profile."""

import json
import secrets
from pathlib import Path
from typing import Literal, get_args

import jax
from jax.sharding import SingleDeviceSharding

from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.shapes import fresh_shapes
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.errors import UsageError, first_few
from jax_elastic.files import replace_file
from jax_elastic.training.checkpoint import Checkpoints, Items, Meta, abstract, read_meta
from jax_elastic.training.experiment import Experiment, check_same, from_config, to_config
from jax_elastic.training.processes import agree, any_of, is_first, wait_for_all

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
METRICS = "metrics.jsonl"
EVENTS = "tensorboard"
PROFILE = "profile"

Checkpoint = Literal["newest", "best"]


def claim(workdir: Path, experiment: Experiment) -> None:
    """Makes a workdir the experiment's own by writing its resolved config into it.

    A workdir without a checkpoint is nobody's yet: a command that was refused or killed early
    may be corrected.

    Raises:
      UsageError: the workdir belongs to another experiment (see `check_same`), or holds weights
        alone.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir} is a file", "a directory, or a name for a new one")
    _check_goes_on(workdir)
    if newest_step(workdir) is not None and (workdir / CONFIG).exists():
        check_same(read_config(workdir), experiment, str(workdir))
    wait_for_all("claim: looked")  # so that none finds what the first has already written
    if is_first():
        text = json.dumps(to_config(experiment), indent=2) + "\n"
        replace_file(workdir / CONFIG, text.encode())
    _check_shared(workdir)


def _check_goes_on(workdir: Path) -> None:
    """Refuses a workdir of weights alone before anything is compiled.

    Raises:
      UsageError: see `weights_alone`.
    """
    newest = newest_step(workdir)
    if newest is None:
        return
    try:
        meta = read_meta(workdir / CHECKPOINTS / str(newest))
    except (OSError, ValueError):
        return  # damaged: whoever restores says so, and takes an older one
    # Of a newer schema there may be no hashes: whoever restores refuses it by that.
    if "opt_state" not in meta.get("hashes", ("opt_state",)):
        raise weights_alone(workdir, newest)


def weights_alone(workdir: Path, step: int) -> UsageError:
    """The error of training that is to go on from a checkpoint without an optimizer's state."""
    return UsageError(
        f"checkpoint {step} in {workdir} holds weights alone: no run can go on from it",
        next_step="start another run from these weights, with a --workdir of its own: "
        f"--config.init_from={workdir}",
    )


def unfinished(meta: Meta, patience: int) -> str:
    """What to say of a checkpoint that its run did not end with; empty where it did.

    Args:
      meta: of a run's newest checkpoint.
      patience: of its experiment.
    """
    # Older checkpoints do not tell what was planned.
    planned, best = meta.get("planned", meta["step"]), meta.get("best")
    if meta["step"] >= planned or (best and 0 < patience <= best[2]):
        return ""
    return f"step {meta['step']} of {planned}: training is not finished"


def _check_shared(workdir: Path) -> None:
    """Refuses a workdir that is not the same directory for all processes.

    Raises:
      UsageError: in all of them.
    """
    (number,) = agree([secrets.randbelow(2**32)])
    token = workdir / f".shared-{number:.0f}"
    if is_first():
        token.touch()
    wait_for_all("claim: written")
    unseen = any_of(not token.exists())
    if is_first():
        token.unlink()
    if unseen:
        raise UsageError(
            f"--workdir={workdir} is not the same directory for all processes",
            "one on a file system that all of them see",
        )


def read_config(workdir: Path) -> Experiment:
    """The experiment of a workdir.

    Raises:
      UsageError: there is no config, or it is not one of ours.
    """
    path = workdir / CONFIG
    if not path.exists():
        raise UsageError(
            f"{workdir} is not a workdir: it has no {CONFIG}",
            next_step=f"train first: python train.py --config=... --workdir={workdir}",
        )
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    try:
        return from_config(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def check_class_names(meta: Meta, dataset: Dataset) -> None:
    """Refuses a set whose classes are not those that a checkpoint was trained on.

    Raises:
      UsageError: their names, their order or their taxonomy differ.
    """
    # Older checkpoints have none.
    trained = tuple(meta.get("class_names", dataset.class_names))
    if trained != dataset.class_names:
        raise UsageError(
            f"{dataset.name} has the classes {first_few(dataset.class_names)}",
            f"those of the training set: {first_few(trained)}",
        )
    if meta.get("taxonomy", "") != dataset.taxonomy:
        raise UsageError(
            f"{dataset.name} has other label levels than the training set had",
            "the taxonomy of config.data.taxonomy, as it was then",
        )


def newest_step(workdir: Path) -> int | None:
    """The step of a workdir's newest checkpoint; None without one.

    It is known by its name, so that no device is needed; whether it is whole is not looked at.
    """
    names = [path.name for path in (workdir / CHECKPOINTS).glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def load(
    workdir: str | Path, checkpoint: Checkpoint = "newest"
) -> tuple[Family, Variables, Experiment]:
    """A trained network: (network, variables, experiment) from a whole checkpoint.

    Args:
      workdir: where `train` left it.
      checkpoint: the `newest`, or the one that was `best` on validation data.

    Returns:
      The family, its variables on the default device (their moving average where the run kept
      one) without parts that only teach it, and the experiment they came from.

    Raises:
      UsageError: no workdir, no whole checkpoint, or one of another network.
    """
    experiment = read_config(Path(workdir))
    variables, _ = load_variables(Path(workdir), experiment, checkpoint)
    return experiment.network, without_train_only(variables), experiment


def load_variables(
    workdir: Path, experiment: Experiment, checkpoint: Checkpoint = "newest"
) -> tuple[Variables, Meta]:
    """What `load` gives, and the checkpoint's meta (`step`, `phase_name`, ...).

    Also in the meta: `item`, the name by which `hashes` has the hash of these variables.

    Raises:
      UsageError: no whole checkpoint, or one of another network.
    """
    if checkpoint not in get_args(Checkpoint):
        raise UsageError(f"unknown checkpoint {checkpoint!r}", "one of newest, best")
    directory = workdir / (CHECKPOINTS if checkpoint == "newest" else BEST)
    place = SingleDeviceSharding(jax.local_devices()[0])

    def targets(meta: Meta) -> Items:
        variables = fresh_shapes(experiment.network, experiment.data.image_shape)
        return abstract({_evaluated(meta): variables}, place)

    restored = None
    if directory.exists():
        with Checkpoints(directory, experiment.runtime.keep) as checkpoints:
            restored = checkpoints.restore(targets)
    if restored is None:
        raise _no_checkpoint(workdir, experiment.runtime.save_every, checkpoint)
    items, meta = restored
    item = _evaluated(meta)
    return items[item], {**meta, "item": item}


def _no_checkpoint(workdir: Path, save_every: int, checkpoint: Checkpoint) -> UsageError:
    """The error of a workdir without a checkpoint of a kind; it tells how to get one."""
    if checkpoint == "best":
        return UsageError(
            f"{workdir} has no best checkpoint",
            next_step="train with validations: config.data.validation above 0, and a phase that "
            "validates",
        )
    return UsageError(
        f"{workdir} has no checkpoint yet",
        f"training writes one every {save_every} steps and at the end of each phase",
        f"train first, with its config: python train.py --config=... --workdir={workdir}",
    )


def _evaluated(meta: Meta) -> str:
    """The item of a checkpoint that holds what is evaluated."""
    return "ema" if "ema" in meta["hashes"] else "variables"
