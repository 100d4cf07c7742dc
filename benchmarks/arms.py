"""The arms of an experiment: one config, several seeds; trained and evaluated where it is missing.

A run lies in ``ROOT/CONFIG-VARIANT-seedN`` and belongs to every experiment that names its config.
What was found on the test images lies beside its checkpoints, so nothing is done twice.
"""

import dataclasses
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.corruption import CORRUPTIONS
from jax_elastic.cli.flags import read_config
from jax_elastic.data.datasets import load
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.files import replace_file
from jax_elastic.training.experiment import Experiment, to_config
from jax_elastic.training.loop import train
from jax_elastic.training.stop import Stop
from jax_elastic.training.workdir import claim, load_variables

Floats = npt.NDArray[np.float64]
MEASURES = ("top1", "usage", "macs")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of an experiment.

    Attributes:
      config: as `--config` takes it.
      start: the config of the run it starts from, or None.
      trained_as: the config of the run that trains its variables, or None for its own: the
        network of `config` is then only evaluated.
      budgets: asked of it; empty where it takes none.
      changes: flags that change its config, e.g. ``--config.phases.base.epochs=1``.
      images: `clean`, or a name in `CORRUPTIONS`.
    """

    config: str
    start: str | None = None
    trained_as: str | None = None
    budgets: tuple[float, ...] = ()
    changes: tuple[str, ...] = ()
    images: str = "clean"


@dataclasses.dataclass(frozen=True)
class Found:
    """What an arm gave on the test images.

    Attributes:
      budgets: asked; (None,) where it takes none.
      values: measure -> (seeds, budgets, images): `top1`; `usage`, share of the blocks that
        opened (1 where nothing can be skipped); `macs`. Means over the draws where gates are
        random.
      seconds: training and evaluation, of all seeds.
    """

    budgets: tuple[float | None, ...]
    values: dict[str, Floats]
    seconds: float

    def at(self, measure: str, budget: float | None = None) -> Floats:
        """(seeds, images) of a measure at a budget."""
        return self.values[measure][:, self.budgets.index(budget)]

    @property
    def images(self) -> int:
        """How many images were evaluated."""
        return int(self.values["top1"].shape[-1])


class Runner:
    """Trains and evaluates arms below one directory.

    Args:
      root: where the runs lie.
      stop: asked during training; see `train`.
      report: gets the lines for the terminal.
    """

    def __init__(self, root: Path, stop: Stop, report: Callable[[str], None]):
        self._root, self._stop, self._report = root, stop, report

    def find(self, arm: Arm, seeds: int) -> Found:
        """What the arm gives with seeds 0, 1, ...

        Raises:
          Stopped: in the middle; called again it goes on from there.
          UsageError: see `train` and `Evaluator`.
        """
        parts = [self._seed(arm, seed) for seed in range(seeds)]
        values = {
            measure: np.stack([values[measure] for values, _ in parts]) for measure in MEASURES
        }
        return Found(arm.budgets or (None,), values, sum(seconds for _, seconds in parts))

    def _seed(self, arm: Arm, seed: int) -> tuple[dict[str, Floats], float]:
        workdir = self._train(arm.trained_as or arm.config, seed, arm.changes, arm.start)
        return self._evaluate(arm, _read(arm.config, seed, arm.changes, None), workdir)

    def _train(self, config: str, seed: int, changes: tuple[str, ...], start: str | None) -> Path:
        origin = None
        if start is not None:
            origin = self._train(start, seed, _of_base(changes), None)
        workdir = self._root / f"{_name(config)}-seed{seed}"
        experiment = _read(config, seed, changes, origin)
        claim(workdir, experiment)
        if not (workdir / "done").exists():
            self._report(f"{workdir}")
            train(experiment, workdir, stop=self._stop, report=self._report)
            replace_file(workdir / "done", b"")
        return workdir

    def _evaluate(
        self, arm: Arm, experiment: Experiment, workdir: Path
    ) -> tuple[dict[str, Floats], float]:
        variables, meta = load_variables(workdir, experiment)
        key = json.dumps(
            {
                "network": to_config(experiment)["network"],
                "hash": meta["hashes"]["variables"],
                "budgets": arm.budgets,
                "images": arm.images,
            }
        )
        path = workdir / f"found-{_name(arm.config)}-{arm.images}.npz"
        trained = float(meta.get("seconds", 0.0))
        if path.exists():
            stored = np.load(path)
            if str(stored["key"]) == key:
                values = {name: stored[name] for name in MEASURES}
                return values, trained + float(stored["seconds"])
        begun = time.monotonic()
        dataset = load(experiment.data, "test")
        if arm.images != "clean":
            dataset = CORRUPTIONS[arm.images](dataset)
        evaluation = Evaluator(
            experiment.network, dataset, experiment.data, budgets=arm.budgets or None
        )(variables)
        values = {
            "top1": np.stack(evaluation.top1),
            "usage": np.stack([_usage(opened, len(dataset)) for opened in evaluation.opened]),
            "macs": np.stack(evaluation.macs),
        }
        seconds = time.monotonic() - begun
        _save(path, {**values, "key": key, "seconds": seconds})
        return values, trained + seconds


def _usage(opened: Floats | None, images: int) -> Floats:
    return np.ones(images) if opened is None else opened.mean(1)


def _save(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace_file(path, buffer.getvalue())


def _name(config: str) -> str:
    file, _, variant = config.partition(":")
    return "-".join([Path(file).stem, *filter(None, variant.split(","))])


def _read(config: str, seed: int, changes: tuple[str, ...], origin: Path | None) -> Experiment:
    flags = [f"--config={config}", f"--config.seed={seed}", *changes]
    if origin is not None:
        flags.append(f"--config.init_from={origin}")
    experiment, _ = read_config(flags, config)
    return experiment


def _of_base(changes: tuple[str, ...]) -> tuple[str, ...]:
    """The changes that a run of the base phase alone can have."""
    return tuple(c for c in changes if ".phases." not in c or ".phases.base." in c)
