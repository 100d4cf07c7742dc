"""The arms of an experiment: one config, several seeds; trained and evaluated where it is missing.

A run lies in ``ROOT/CONFIG-VARIANT-seedN`` and belongs to every experiment that names its config.
What was found on the test images lies beside its checkpoints, so nothing is done twice.
"""

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.choices import teach
from benchmarks.corruption import CORRUPTIONS
from benchmarks.guidance import guidance
from benchmarks.provenance import Facts, facts
from jax_elastic.cli.flags import read_config
from jax_elastic.data.datasets import load
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.borrow import borrow_banks
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.registry import family_name
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import RANDOM_DRAWS, Evaluator
from jax_elastic.evaluation.gradients import read_gradients
from jax_elastic.files import replace_file
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import Subnet
from jax_elastic.training.config import describe
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.stop import Stop
from jax_elastic.training.workdir import METRICS, claim, load_variables

Floats = npt.NDArray[np.float64]
Values = dict[str, Floats]
Given = Mapping[str, str]
NOTHING: Given = MappingProxyType({})
MEASURES = ("top1", "usage", "macs", "loss")
OTHERS = ("choice", "opened", "expected", "decided", "gradient")
"""The measures that there are besides where images choose between candidates, where blocks open per
image, where something is expected of them (see `guidance`), and where gradients were measured."""
DONE = "done.json"  # of a run: where and when it was trained


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of an experiment.

    Attributes:
      config: as `--config` takes it.
      start: the config of the run it starts from, or None.
      trained_as: the config of the run that trains its variables, or None for its own: the
        network of `config` is then only evaluated.
      budgets: asked of it; empty where it takes none.
      images: `clean`, or a name in `CORRUPTIONS`.
      subnets: operating points as text; empty for those that the network shows.
      bank_of: the one whose BN layers stand for those that were never trained, which is unsafe;
        empty: none does. See `borrow_banks`.
      recalibrated: whether the BN statistics of each operating point are estimated anew, from the
        training images.
      candidates: between how many operating points of the run it starts from its images choose;
        see `teach`. 0: nothing is chosen.
      settings: keys of the config that differ, each as `key=value`.

    Raises:
      ValueError: at construction, where there are candidates and no run to start from.
    """

    config: str
    start: str | None = None
    trained_as: str | None = None
    budgets: tuple[float, ...] = ()
    images: str = "clean"
    subnets: tuple[str, ...] = ()
    bank_of: str = ""
    recalibrated: bool = False
    candidates: int = 0
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.candidates and self.start is None:
            raise ValueError(f"{self.config} starts from no run whose points could be candidates")


@dataclasses.dataclass(frozen=True)
class Found:
    """What an arm gave on the test images.

    Attributes:
      budgets: asked; (None,) where it takes none.
      values: measure -> (seeds, budgets, images): `top1`; `usage`, share of the blocks that
        opened (1 where nothing can be skipped); `macs`. Means over the draws where gates are
        random; `loss`, the cross-entropy in nats. Where the arm has several operating points,
        these stand in place of the budgets. Where images choose also `choice`, an index into the
        candidates; where blocks open per image `opened`, (seeds, budgets, images, blocks); and
        what `guidance` tells. Where `config.runtime.gradients` is set `gradient`, (seeds, 1,
        blocks), the mean |dL/dW| of each block's convolutions over training.
      subnets: those of the arm.
      taught: for each seed what its images were taught to choose, and between which candidates,
        which each seed has of its own; empty where nothing is chosen.
    """

    budgets: tuple[float | None, ...]
    values: Values
    subnets: tuple[str, ...] = ()
    taught: tuple[Targets, ...] = ()

    def at(self, measure: str, budget: float | None = None) -> Floats:
        """(seeds, images) of a measure at a budget."""
        return self.values[measure][:, self.budgets.index(budget)]

    def of(self, measure: str, subnet: str) -> Floats:
        """(seeds, images) of a measure at one of the arm's operating points."""
        return self.values[measure][:, self.subnets.index(subnet)]


class Runner:
    """Trains and evaluates arms below one directory.

    Args:
      root: where the runs lie.
      stop: asked during training; see `train`.
      report: gets the lines for the terminal.

    Attributes:
      seconds: path of a run or an evaluation -> what it took: training without compiling, and
        evaluation. Every one that was needed, once.
      facts: path -> where it comes from.
    """

    def __init__(self, root: Path, stop: Stop, report: Callable[[str], None]):
        self._root, self._stop, self._report = root, stop, report
        self.seconds: dict[Path, float] = {}
        self.facts: dict[Path, Facts] = {}

    def find(self, arm: Arm, seeds: int) -> Found:
        """What the arm gives with seeds 0, 1, ...

        Raises:
          Stopped: in the middle; called again it goes on from there.
          UsageError: see `train` and `Evaluator`; or a run started from other weights than those
            that its base has now.
        """
        parts, taught = [], []
        for seed in range(seeds):
            origin, given = None, dict(of.split("=", 1) for of in arm.settings)
            if arm.start is not None:
                origin = self._train(arm.start, seed)
                if arm.candidates:
                    base = read(arm.start, seed)
                    own, path = teach(origin, base, arm.candidates, self._report)
                    taught.append(own)
                    given["data.targets"] = str(path)
                    given["network.pool"] = ";".join(own.candidates)
            name = arm.trained_as or arm.config
            workdir = self._train(name, seed, origin, given, arm.settings)
            parts.append(self._evaluate(arm, read(arm.config, seed, given=given), workdir))
        values = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return Found(arm.budgets or (None,), values, arm.subnets, tuple(taught))

    def _train(
        self,
        config: str,
        seed: int,
        origin: Path | None = None,
        given: Given = NOTHING,
        settings: Sequence[str] = (),
    ) -> Path:
        workdir = self._root / f"{_name(config, settings)}-seed{seed}"
        experiment = read(config, seed, origin, given)
        claim(workdir, experiment)
        if not (workdir / DONE).exists():
            self._report(f"{workdir}")
            train(experiment, workdir, stop=self._stop, report=self._report)
            _, meta = load_variables(workdir, experiment)
            done = {"seconds": meta["seconds"], "hash": meta["hashes"]["variables"]}
            text = json.dumps({**done, "facts": facts()}, indent=2)
            replace_file(workdir / DONE, text.encode())
        if origin is not None:
            _check_start(workdir, origin)
        done = _read_done(workdir)
        self.seconds[workdir], self.facts[workdir] = done["seconds"], done["facts"]
        return workdir

    def _evaluate(self, arm: Arm, experiment: Experiment, workdir: Path) -> Values:
        network = experiment.network
        key = json.dumps(
            {
                "network": {"family": family_name(network), **describe(network)},
                "data": describe(experiment.data),
                "variables": _read_done(workdir)["hash"],
                "budgets": arm.budgets,
                "images": arm.images,
                "subnets": arm.subnets,
                "bank_of": arm.bank_of,
                "recalibrated": arm.recalibrated,
                "draws": RANDOM_DRAWS,
                "measures": MEASURES + OTHERS,
            }
        )
        path = workdir / f"found-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            begun = time.monotonic()
            values = evaluate(arm, experiment, workdir)
            made = {"seconds": time.monotonic() - begun, "facts": json.dumps(facts()), "key": key}
            _save(path, {**values, **made})
        with np.load(path) as stored:
            self.seconds[path] = float(stored["seconds"])
            self.facts[path] = json.loads(str(stored["facts"]))
            return {name: stored[name] for name in (*MEASURES, *OTHERS) if name in stored}


def evaluate(arm: Arm, experiment: Experiment, workdir: Path) -> Values:
    """What the arm's network gives with a workdir's variables: measures of (budgets, images)."""
    variables, _ = load_variables(workdir, experiment)
    dataset = load(experiment.data, "test")
    if arm.images != "clean":
        dataset = CORRUPTIONS[arm.images](dataset)
    everything, parts = np.ones(len(dataset)), []
    for subnets, prepared in _prepared(arm, experiment, variables):
        evaluator = Evaluator(experiment.network, dataset, experiment.data, subnets, arm.budgets)
        found = evaluator(prepared)
        usage = [everything if opened is None else opened.mean(1) for opened in found.opened]
        part = {"top1": found.top1, "usage": usage, "macs": found.macs, "loss": found.loss}
        if experiment.network.candidates:
            # Where there is but one candidate, it is the cheapest.
            part["choice"] = [0 * everything if own is None else own[0] for own in found.choice]
        elif all(opened is not None for opened in found.opened):
            part["opened"] = found.opened
        part |= guidance(experiment.network, prepared, dataset, experiment.data)
        parts.append(part)
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if experiment.runtime.gradients:
        values["gradient"] = _gradient(experiment.network, workdir)
    return values


def _gradient(network: Family, workdir: Path) -> Floats:
    """(1, blocks), in their order."""
    names = [segment.name for segment in network.segments(network.subnets.fullest)]
    rows = MetricsFile(workdir / METRICS).rows()
    means = read_gradients(workdir.name, names, rows).means
    return np.array([[means[name] for name in names if name.startswith("block")]])


def _prepared(
    arm: Arm, experiment: Experiment, variables: Variables
) -> Iterator[tuple[tuple[Subnet, ...], Variables]]:
    """Operating points that share their variables, with these."""
    network, subnets = experiment.network, tuple(Subnet.parse(text) for text in arm.subnets)
    if arm.bank_of:
        variables = borrow_banks(network, variables, Subnet.parse(arm.bank_of), subnets)
    if not arm.recalibrated:
        yield subnets, variables
        return
    images = load(experiment.data, "train").images
    for subnet in subnets:
        # Points share banks, so each has what is estimated for it alone; from all images at once,
        # which no batch size has a part in.
        estimated = recalibrate(
            network, variables, subnet, images, data=experiment.data, batch_size=len(images)
        )
        yield (subnet,), estimated


def read(config: str, seed: int, origin: Path | None = None, given: Given = NOTHING) -> Experiment:
    """The experiment of a config, with a seed, the workdir it starts from, and other keys."""
    flags = [f"--config={config}", f"--config.seed={seed}"]
    if origin is not None:
        flags.append(f"--config.init_from={origin}")
    flags += [f"--config.{key}={value}" for key, value in given.items()]
    experiment, _ = read_config(flags, config)
    return experiment


def _read_done(workdir: Path) -> dict[str, Any]:
    """`seconds` and `hash` of a run that is over, and its `facts`."""
    done: dict[str, Any] = json.loads((workdir / DONE).read_text())
    return done


def _check_start(workdir: Path, origin: Path) -> None:
    """Refuses a run whose base was trained anew since."""
    (row,) = [row for row in MetricsFile(workdir / METRICS).rows() if row["kind"] == "start"]
    if row["init_hash"] != _read_done(origin)["hash"]:
        raise UsageError(
            f"{workdir} started from other weights than those of {origin}",
            next_step=f"delete {workdir}, so that it is trained again",
        )


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace_file(path, buffer.getvalue())


def _name(config: str, settings: Sequence[str] = ()) -> str:
    file, _, variant = config.partition(":")
    return "-".join([Path(file).stem, *filter(None, variant.split(",")), *settings])
