"""The arms of an experiment: one config, several seeds; trained and evaluated where it is missing.

A run lies in ``ROOT/CONFIG-VARIANT-seedN`` and belongs to every experiment that names its config.
What was found on the test images lies beside its checkpoints, so nothing is done twice.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.arm import MEASURES, OTHERS, Arm, Found, Values
from benchmarks.choices import teach
from benchmarks.measured import evaluate
from benchmarks.provenance import Facts, facts
from jax_elastic.cli.flags import read_config
from jax_elastic.elastic.registry import family_name
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import RANDOM_DRAWS
from jax_elastic.files import replace_file
from jax_elastic.training.config import describe
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.stop import Stop
from jax_elastic.training.workdir import METRICS, claim, load_variables

Given = Mapping[str, str]
NOTHING: Given = MappingProxyType({})
DONE = "done.json"  # of a run: where and when it was trained


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
                "split": arm.split,
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
