"""Phases of training: what each trains and how, and where in time it lies.

A run is a list of phases, e.g. base -> gates -> joint, that one loop goes through.
"""

import dataclasses
import math
from functools import partial
from typing import Any, Literal

import optax

from jax_elastic.elastic.family import BNMode, When
from jax_elastic.errors import UsageError
from jax_elastic.training.trainable import matches


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
      name: shown in progress, metrics and checkpoints.
      epochs: passes over the training set; rounded to whole steps.
      objective: what the family's loss is asked for.
      trainable: regular expression over parameter paths; the others are frozen.
      bn: `batch` normalises with the batch and updates the statistics, `running` does neither.
      batch_size: images per step, over all devices.
      accumulate: parts of a batch that are computed one after the other, which takes the memory
        of one; their gradients are averaged. Equal to the whole batch but for what BN sees
        (each part is normalised by itself) and for the gates' noise.
      optimizer: `sgd` (with momentum) or `adam`.
      learning_rate: at the start of the schedule, after the warm-up.
      schedule: `constant`; `cosine` or `linear` to `final_learning_rate`; `step`, which multiplies
        by `decay` at each of `milestones`.
      final_learning_rate: where `cosine` and `linear` end.
      milestones: in epochs of the schedule, for `step`.
      decay: for `step`.
      schedule_start: epochs of the schedule that lie before this phase, so that one schedule can
        go through several phases that all describe it whole, warm-up included.
      schedule_epochs: of the whole schedule; 0: it ends with this phase.
      warmup_epochs: how long the learning rate is another one at the start of the schedule.
      warmup: `linear` from `warmup_learning_rate` to `learning_rate`; `constant` stays there.
      warmup_learning_rate: see above.
      momentum: of `sgd`.
      nesterov: of `sgd`.
      weight_decay: times a trainable parameter it is added to its gradient (L2).
      decayed: regular expression over the paths of parameters that decay; ``kernel$`` leaves out
        BN and biases.
      label_smoothing: share of the target that is spread over all classes.
      validate: whether validation is measured in this phase; not where the network is not yet
        what it will be, as a gated one before its gates are trained.
      pretrain: left out where the run starts from other weights, `config.init_from`.
      finetune: needs weights to start from: of another run, or of a phase before it.
    """

    name: str
    epochs: float
    objective: str
    learning_rate: float
    trainable: str = ".*"
    bn: BNMode = "batch"
    batch_size: int = 128
    accumulate: int = 1
    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    final_learning_rate: float = 0.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    schedule_start: float = 0.0
    schedule_epochs: float = 0.0
    warmup_epochs: float = 0.0
    warmup: Literal["linear", "constant"] = "linear"
    warmup_learning_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decayed: str = ".*"
    label_smoothing: float = 0.0
    validate: bool = True
    pretrain: bool = False
    finetune: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "accumulate"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{name} {value} of phase {self.name!r} is not positive")
        for name in (
            *("final_learning_rate", "warmup_epochs", "warmup_learning_rate"),
            *("schedule_start", "schedule_epochs", "weight_decay", "momentum"),
        ):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} {value} of phase {self.name!r} is negative or not finite")
        if self.momentum >= 1:
            raise UsageError(f"momentum {self.momentum} of phase {self.name!r} is not below 1")
        if self.nesterov and (self.optimizer == "adam" or not self.momentum):
            what = f"nesterov of phase {self.name!r} has no momentum to act on"
            raise UsageError(what, 'optimizer="sgd" with a momentum above 0')
        if not 0 < self.decay <= 1:
            raise UsageError(f"decay {self.decay} of phase {self.name!r} is not in (0, 1]")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"label_smoothing {self.label_smoothing} of phase {self.name!r} is not in [0, 1)"
            )
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"batch_size {self.batch_size} of phase {self.name!r} has no {self.accumulate} "
                "equal parts",
                "an accumulate that divides it",
            )
        if any(not epoch >= 0 for epoch in self.milestones):
            raise UsageError(f"milestones {self.milestones} of phase {self.name!r} hold a negative")
        self._check_schedule()

    def _check_schedule(self) -> None:
        end = self.schedule_start + self.epochs
        # Sums of epochs are rounded.
        if self.schedule_epochs and self.schedule_epochs < end * (1 - 1e-9):
            raise UsageError(
                f"schedule_epochs {self.schedule_epochs:g} of phase {self.name!r} are over before "
                f"the phase, at epoch {end:g} of the schedule",
                "that or more, or 0: it ends with this phase",
            )


def check_shared_schedules(phases: tuple[Phase, ...]) -> None:
    """Refuses phases between which the learning rate of the schedule that they share would jump.

    Phases share one where they have the same `schedule_epochs` and the later one has a
    `schedule_start`.

    Raises:
      UsageError: one starts elsewhere in the schedule than where the one before ended.
    """
    for index, phase in enumerate(phases):
        before = [
            other
            for other in phases[:index]
            if 0 < other.schedule_epochs == phase.schedule_epochs and phase.schedule_start
        ]
        if not before:
            continue
        end = before[-1].schedule_start + before[-1].epochs
        # Sums of epochs are rounded.
        if not math.isclose(end, phase.schedule_start, rel_tol=1e-9):
            raise UsageError(
                f"phase {phase.name!r} starts at epoch {phase.schedule_start:g} of a schedule that "
                f"phase {before[-1].name!r} leaves at epoch {end:g}",
                f"schedule_start {end:g}, so that the learning rate goes on where it was",
                "change epochs, schedule_start and schedule_epochs of both phases together",
            )


@dataclasses.dataclass(frozen=True)
class Span:
    """A phase on the time line of a run.

    Attributes:
      phase: the phase.
      index: its place among the phases.
      start: first step, counted over all phases.
      stop: one past its last step.
      start_epoch: passes done before it.
      steps_per_epoch: of this phase, a float: the epoch need not end with a step.
    """

    phase: Phase
    index: int
    start: int
    stop: int
    start_epoch: float
    steps_per_epoch: float

    @property
    def steps(self) -> int:
        """Steps of this phase."""
        return self.stop - self.start

    def when(self, step: int) -> When:
        """The `When` of a step, counted over all phases."""
        done = step - self.start
        return When(
            step=step,
            epoch=self.start_epoch + done / self.steps_per_epoch,
            phase=self.phase.name,
            phase_step=done,
            phase_epoch=done / self.steps_per_epoch,
            phase_steps=self.steps,
            objective=self.phase.objective,
        )


def spans(phases: tuple[Phase, ...], size: int) -> tuple[Span, ...]:
    """Lays phases end to end for a training set of `size` images."""
    found = []
    start, start_epoch = 0, 0.0
    for index, phase in enumerate(phases):
        steps_per_epoch = size / phase.batch_size
        # Steps are rounded from the schedule's start, so that phases that share one have as many
        # as a single phase.
        ends = (phase.schedule_start, phase.schedule_start + phase.epochs)
        first, last = (round(epoch * steps_per_epoch) for epoch in ends)
        stop = start + max(1, last - first)
        found.append(Span(phase, index, start, stop, start_epoch, steps_per_epoch))
        start_epoch += (stop - start) / steps_per_epoch
        start = stop
    return tuple(found)


def make_schedule(span: Span) -> optax.Schedule:
    """The learning rate as a function of the phase's own step."""
    before = round(span.phase.schedule_start * span.steps_per_epoch)
    whole = _whole_schedule(span, before)
    if not before:
        return whole
    return lambda step: whole(before + step)


def _whole_schedule(span: Span, before: int) -> optax.Schedule:
    """The schedule that the phase has its part in, `before` steps of which are over."""
    phase = span.phase
    warmup = round(phase.warmup_epochs * span.steps_per_epoch)
    steps = round(phase.schedule_epochs * span.steps_per_epoch) or before + span.steps
    main = _main_schedule(span, max(1, steps - warmup), warmup)
    if not warmup:
        return main
    top = phase.learning_rate if phase.warmup == "linear" else phase.warmup_learning_rate
    first = optax.linear_schedule(phase.warmup_learning_rate, top, warmup)
    return optax.join_schedules([first, main], [warmup])


def _main_schedule(span: Span, steps: int, warmup: int) -> optax.Schedule:
    """The learning rate in the `steps` after `warmup`, counted from there."""
    phase = span.phase
    if phase.schedule == "cosine":
        alpha = phase.final_learning_rate / phase.learning_rate
        return optax.cosine_decay_schedule(phase.learning_rate, steps, alpha)
    if phase.schedule == "linear":
        return optax.linear_schedule(phase.learning_rate, phase.final_learning_rate, steps)
    if phase.schedule == "step":
        # Milestones count from the schedule's start.
        at = [round(epoch * span.steps_per_epoch) - warmup for epoch in phase.milestones]
        scales = {step: phase.decay ** at.count(step) for step in at}
        return optax.piecewise_constant_schedule(phase.learning_rate, scales)
    return optax.constant_schedule(phase.learning_rate)


def make_optimizer(span: Span) -> optax.GradientTransformation:
    """The optimizer of a phase; its state is made anew at the phase's start."""
    phase = span.phase
    parts: list[Any] = []
    if phase.weight_decay:
        mask = partial(matches, pattern=phase.decayed, what="decayed")
        parts.append(optax.add_decayed_weights(phase.weight_decay, mask))
    if phase.optimizer == "adam":
        parts.append(optax.scale_by_adam())
    elif phase.momentum:
        parts.append(optax.trace(phase.momentum, phase.nesterov))
    return optax.chain(*parts, optax.scale_by_learning_rate(make_schedule(span)))
