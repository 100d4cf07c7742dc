"""The directory of a run: its resolved config, checkpoints, metrics and profile."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jax_elastic.elastic.family import Family, Variables
from jax_elastic.errors import UsageError
from jax_elastic.files import replace_file
from jax_elastic.training.checkpoint import Checkpoints, Items, Meta, abstract
from jax_elastic.training.experiment import Experiment, check_same, from_config, to_config

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
METRICS = "metrics.jsonl"
EVENTS = "tensorboard"
PROFILE = "profile"


def claim(workdir: Path, experiment: Experiment) -> None:
    """Makes a workdir the experiment's own by writing its resolved config into it.

    A workdir without a checkpoint is nobody's yet: a command that was refused or killed early
    may be corrected.

    Raises:
      UsageError: the workdir belongs to another experiment (see `check_same`).
    """
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir} is a file", "a directory, or a name for a new one")
    begun = any((workdir / CHECKPOINTS).glob("*"))
    if begun and (workdir / CONFIG).exists():
        check_same(read_config(workdir), experiment, str(workdir))
    text = json.dumps(to_config(experiment), indent=2) + "\n"
    replace_file(workdir / CONFIG, text.encode())


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


def newest_step(workdir: Path) -> int | None:
    """The step of a workdir's newest checkpoint; None without one.

    It is known by its name, so that no device is needed; whether it is whole is not looked at.
    """
    names = [path.name for path in (workdir / CHECKPOINTS).glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def load(workdir: str | Path) -> tuple[Family, Variables, Experiment]:
    """A trained network: (network, variables, experiment) from the newest whole checkpoint.

    Args:
      workdir: where `train` left it.

    Returns:
      The family, its variables on the default device, and the experiment they came from.

    Raises:
      UsageError: no workdir, no whole checkpoint, or one of another network.
    """
    experiment = read_config(Path(workdir))
    variables, _ = load_variables(Path(workdir), experiment)
    return experiment.network, variables, experiment


def load_variables(workdir: Path, experiment: Experiment) -> tuple[Variables, Meta]:
    """The variables of the newest whole checkpoint, and its meta (`step`, `phase_name`, ...).

    Raises:
      UsageError: no whole checkpoint, or one of another network.
    """
    place = SingleDeviceSharding(jax.devices()[0])

    def targets(meta: Meta) -> Items:
        del meta
        images = jax.ShapeDtypeStruct((1, *experiment.data.image_shape), jnp.float32)
        variables = jax.eval_shape(experiment.network.init, jax.random.key(0), images)
        return abstract({"variables": variables}, place)

    restored = None
    if (workdir / CHECKPOINTS).exists():
        with Checkpoints(workdir / CHECKPOINTS, experiment.runtime.keep) as checkpoints:
            restored = checkpoints.restore(targets)
    if restored is None:
        raise UsageError(
            f"{workdir} has no checkpoint yet",
            next_step=f"train first, with its config: python train.py --config=... "
            f"--workdir={workdir}",
        )
    items, meta = restored
    return items["variables"], meta
