"""An experiment: all that a run depends on, read from a config and written beside its results."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.abilities import TARGET, Targeted
from jax_elastic.elastic.family import Family, Form
from jax_elastic.elastic.registry import FAMILIES, family_name
from jax_elastic.errors import UsageError
from jax_elastic.training.aim import agreed
from jax_elastic.training.config import build, check_keys, describe, differences
from jax_elastic.training.form import FormChoice, resolve
from jax_elastic.training.phases import Phase, check_shared_schedules
from jax_elastic.training.profiling import step_range

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Runtime:
    """What does not change the result, and so may differ when a run is resumed.

    Attributes:
      log_every: steps between metric rows and progress lines.
      save_every: steps between checkpoints.
      validate_every: steps between validations; 0: only at the end of each phase.
      validation_budgets: budgets asked for in validations; empty: all that the network reports.
      keep: newest checkpoints that are kept.
      gradients: whether metric rows tell how large gradients are, see `magnitudes`.
    """

    log_every: int = 100
    save_every: int = 1000
    validate_every: int = 0
    validation_budgets: tuple[float, ...] = ()
    keep: int = 3
    gradients: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("log_every", 1),
            ("save_every", 1),
            ("validate_every", 0),
            ("keep", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(
                    f"config.runtime.{name} {getattr(self, name)} is too small", f"{least} or more"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The part of an experiment that does not depend on the family.

    Attributes:
      data: the data set and its augmentation.
      seed: of all random streams.
      subnet: the one operating point that the run is for, as text, e.g. ``resolution:1,0.7``, of
        networks that are `Targeted`; empty: all that the network has.
      form: how the draws of a step are computed, see `sum_of_grads`; `auto` decides by network and
        platform, see `resolve`.
      steps_per_dispatch: steps that one call of the compiled program does at most.
      deterministic: on GPUs, use only operations that give the same bits every time (slower);
        needed there for restarts that change nothing. The command line sets it.
      init_from: workdir of another run, whose newest checkpoint gives the starting weights where
        this run begins; empty: fresh ones. Phases that `pretrain` are left out then.
      ema_decay: of the moving average of all variables, which is then what is evaluated and
        loaded; 0 keeps none.
      patience: validations in a row without a better score after which training ends; 0: never.
      profile_steps: steps to trace into WORKDIR/profile, ``first:stop`` counted over all phases;
        empty: none. Does not change the result, as `runtime`.
      runtime: what does not change the result.
    """

    data: DataConfig
    seed: int = 0
    subnet: str = ""
    form: FormChoice = "auto"
    steps_per_dispatch: int = 8
    deterministic: bool = False
    init_from: str = ""
    ema_decay: float = 0.0
    patience: int = 0
    profile_steps: str = ""
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Settings):
    """One training run: the settings, and what depends on the family.

    Attributes:
      network: the family with its hyperparameters, aimed at `subnet`: given either way, the
        point is found in both.
      phases: what is trained, in order.
    """

    network: Family
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        network, subnet = agreed(self.network, self.subnet)
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "subnet", subnet)
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"config.seed {self.seed} is out of range", "0 to 2**32 - 1")
        if self.steps_per_dispatch < 1:
            raise UsageError(f"config.steps_per_dispatch {self.steps_per_dispatch} is below 1")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"config.ema_decay {self.ema_decay} is not in [0, 1)")
        self._check_patience()
        step_range(self.profile_steps)  # refuses what is none
        if self.form not in {"auto", *self.network.forms}:
            raise UsageError(
                f"this network does not support config.form {self.form!r}",
                "one of " + ", ".join(["auto", *sorted(self.network.forms)]),
            )
        self._check_phases()

    def _check_patience(self) -> None:
        if self.patience < 0:
            raise UsageError(f"config.patience {self.patience} is below 0", "0: never stop early")
        if self.patience and not self.data.validation:
            raise UsageError(
                "config.patience needs validations, and config.data.validation is 0",
                next_step="hold out a share of train, for example config.data.validation=0.1",
            )

    @property
    def phases_run(self) -> tuple[Phase, ...]:
        """The phases that are run: without those that `init_from` makes needless."""
        return tuple(phase for phase in self.phases if not (phase.pretrain and self.init_from))

    @property
    def caution(self) -> str:
        """What to say of a run that is for one operating point and trains others; or nothing."""
        if not self.subnet or any(phase.objective == TARGET for phase in self.phases_run):
            return ""
        return (
            f"config.subnet is {self.subnet}: it alone is validated and evaluated, and decides "
            f"which checkpoint is the best; no phase trains it alone (objective {TARGET!r})"
        )

    def form_in(self, phase: Phase, platform: str) -> Form:
        """The form of a phase's steps on a platform, e.g. ``cpu``."""
        return resolve(self.form, self.network, phase, platform)

    def check_complete(self) -> None:
        """Refuses to train what lacks an answer that no config file can give.

        Apart from construction, because a config's flags give it later.

        Raises:
          UsageError: a phase trains the one operating point that the run is for, and there is none;
            or one finetunes, and there are no weights to start from.
        """
        for phase in self.phases_run:
            if phase.objective == TARGET and not self.subnet:
                raise UsageError(
                    f"phase {phase.name!r} trains one operating point, and config.subnet is empty",
                    f"for example --config.subnet={self.network.subnets.fullest}",
                    "jax-elastic search --workdir=... finds the best one of a trained network",
                )
        first = self.phases_run[0]
        if first.finetune and not self.init_from:
            raise UsageError(
                f"phase {first.name!r} finetunes, and there are no weights to start from",
                next_step="give the workdir of the run that trained them: --config.init_from=...",
            )

    def _check_phases(self) -> None:
        if not self.phases:
            raise UsageError("config.phases is empty", "one phase or more")
        if not self.phases_run:
            raise UsageError(
                "config.init_from leaves no phase to run: all of config.phases are pretrain",
                next_step="add a phase, or leave config.init_from out",
            )
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise UsageError(f"config.phases has equal names: {', '.join(names)}")
        for phase in self.phases:
            if phase.objective not in self.network.objectives:
                raise UsageError(
                    f"objective {phase.objective!r} of phase {phase.name!r} is unknown here",
                    "this network has " + ", ".join(self.network.objectives),
                )
            if self.form == "staged" and phase.accumulate > 1:
                raise UsageError(
                    f"config.form 'staged' takes batches whole, and phase {phase.name!r} has "
                    f"accumulate {phase.accumulate}",
                    "accumulate 1",
                    "or another config.form, for example host",
                )
        check_shared_schedules(self.phases)


def from_config(config: Mapping[str, Any]) -> Experiment:
    """Reads a config: a ConfigDict turned to a dict, or the JSON of `to_config`.

    Raises:
      UsageError: an unknown key, a wrong type or value, or a newer schema.
    """
    values = dict(config)
    check_schema(values.pop("schema", None), "config")
    network = dict(_group(values, "network"))
    name = network.pop("family", None)
    if name not in FAMILIES:
        raise UsageError(f"config.network.family is {name!r}", "one of " + ", ".join(FAMILIES))
    phases = values.get("phases")
    if not isinstance(phases, list | tuple):
        raise UsageError("config.phases is no list", "a list of phases, each a group of keys")
    check_keys(values, [field.name for field in dataclasses.fields(Experiment)], "config")
    settings = {key: value for key, value in values.items() if key not in ("network", "phases")}
    return Experiment(
        network=build(FAMILIES[name], network, "config.network"),
        phases=tuple(build(Phase, phase, _phase_path(phase, i)) for i, phase in enumerate(phases)),
        **vars(build(Settings, settings, "config")),
    )


def _phase_path(phase: Any, index: int) -> str:
    name = phase.get("name", index) if isinstance(phase, Mapping) else index
    return f"config.phases.{name}"


def to_config(experiment: Experiment) -> dict[str, Any]:
    """The resolved config as plain values, every default written out.

    The operating point that the run is for stands in `subnet` alone.
    """
    settings = {
        field.name: describe(getattr(experiment, field.name))
        for field in dataclasses.fields(Settings)
    }
    own = experiment.network
    plain = own.aimed(None) if isinstance(own, Targeted) else own
    network = {"family": family_name(own), **describe(plain)}
    phases = [describe(phase) for phase in experiment.phases]
    return {"schema": SCHEMA, "network": network, "phases": phases, **settings}


def by_phase_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config whose phases are keyed by name, as flags and messages call them."""
    return {**config, "phases": {phase["name"]: dict(phase) for phase in config["phases"]}}


def check_schema(schema: Any, what: str) -> None:
    """Refuses a schema number that this version does not know."""
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UsageError(f"{what} has schema {schema!r}", f"a number from 1 to {SCHEMA}")
    if schema > SCHEMA:
        raise UsageError(
            f"{what} has schema {schema}, newer than this version's {SCHEMA}",
            next_step="update jax_elastic",
        )


def check_same(old: Experiment, new: Experiment, workdir: str) -> None:
    """Refuses to go on in the workdir of another experiment.

    `runtime` and `profile_steps`, which do not change the result, may differ; under `patience`
    what is validated decides when training ends, and may not. `form` may, as long as it comes to
    the same forms on the platform at hand.

    Raises:
      UsageError: names the keys that differ.
    """
    validated = {
        name: getattr(new.runtime, name)
        for name in (("validate_every", "validation_budgets") if new.patience else ())
    }
    runtime = dataclasses.replace(old.runtime, **validated)
    form = old.form if _forms(old) == _forms(new) else new.form
    plain = dataclasses.replace(new, runtime=runtime, profile_steps=old.profile_steps, form=form)
    found = differences(by_phase_name(to_config(old)), by_phase_name(to_config(plain)), "config")
    if not found and old.phases != plain.phases:
        found = ["the order of config.phases"]
    if found:
        raise UsageError(
            f"workdir {workdir} belongs to another config",
            "it differs in " + ", ".join(found),
            "choose another --workdir, or delete that one",
        )


def _forms(experiment: Experiment) -> dict[str, Form]:
    """Of each phase the form on the platform at hand."""
    platform = jax.default_backend()
    return {phase.name: experiment.form_in(phase, platform) for phase in experiment.phases}


def _group(values: dict[str, Any], key: str) -> Mapping[str, Any]:
    group = values.get(key)
    if not isinstance(group, Mapping):
        raise UsageError(f"config.{key} is {group!r}", "a group of keys")
    return group
