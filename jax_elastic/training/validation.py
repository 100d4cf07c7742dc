"""Validation while a network trains: the best score so far, and when patience has an end.

Neither changes the training itself: they decide which checkpoint is kept as the best and, only
where the config has `patience`, when to stop. Both go by validation data alone (law 7).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jax_elastic.elastic.family import Variables
from jax_elastic.errors import UsageError
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Span
from jax_elastic.training.processes import agree, local
from jax_elastic.training.state import TrainState

Validate = Callable[[Variables], Mapping[str, float]]
"""Variables on one device -> numbers for the metrics, `SCORE` among them.

The variables lie in memory that the next step takes over: copy what is to be kept.
"""

SCORE = "score"
"""What is best where it is highest: the mean top-1 over the rows of the evaluation."""

_POINT = "top1"  # what begins the name of a single operating point's accuracy
_SHOWN = 8  # of more accuracies, a line shows the two ends and the best


class Best(NamedTuple):
    """The best validation so far.

    Attributes:
      score: the highest.
      step: after which it was found; of equal ones the first.
      since: validations after it.
    """

    score: float = -math.inf
    step: int = -1
    since: int = 0

    def after(self, score: float, step: int) -> "Best":
        """The best once another score is known."""
        if score > self.score:
            return Best(score, step)
        return self._replace(since=self.since + 1)

    def to_meta(self) -> list[Any] | None:
        """JSON for a checkpoint; None before the first validation."""
        return None if self.step < 0 else list(self)

    @staticmethod
    def from_meta(values: list[Any] | None) -> "Best":
        """The inverse of `to_meta`; older checkpoints have none."""
        return Best(*values) if values else Best()


class Validation:
    """The validations of a run.

    Args:
      experiment: says when, and how much patience there is.
      validate: what is called; None for no validation at all.
      metrics: gets a row for each.
      report: gets a line for each.

    Attributes:
      best: of the validations so far; set where a run goes on.

    Raises:
      UsageError: patience without `validate`.
    """

    def __init__(
        self,
        experiment: Experiment,
        validate: Validate | None,
        metrics: MetricsFile,
        report: Callable[[str], None],
    ):
        if experiment.patience and validate is None:
            raise UsageError("config.patience is set, but nothing validates")
        self._patience, self._every = experiment.patience, experiment.runtime.validate_every
        self._validate, self._metrics, self._report = validate, metrics, report
        self.best = Best()

    @property
    def patience_ended(self) -> bool:
        """Whether training is to end, for the score no longer grows."""
        return 0 < self._patience <= self.best.since

    def due(self, span: Span, step: int) -> bool:
        """Whether a validation follows a step of a phase."""
        if self._validate is None or not span.phase.validate:
            return False
        return step == span.stop or (self._every > 0 and step % self._every == 0)

    def __call__(self, span: Span, step: int, state: TrainState) -> bool:
        """Validates; returns whether this is the best so far.

        Several processes all do it, each on a device of its own, and go by what the first found.
        """
        assert self._validate is not None
        own = self._validate(local(state.evaluated))
        found = dict(zip(own, agree(list(own.values())), strict=True))
        where = {"kind": "validation", "step": step, "phase": span.phase.name}
        self._metrics.append({**where, **found})
        self._report(f"{span.phase.name:>8}  step {step}  validation  {describe(found)}")
        if SCORE not in found:
            return False
        self.best = self.best.after(found[SCORE], step)
        if self.patience_ended:
            self._report(
                f"patience has ended: the best score, {self.best.score:.4g}, is that of "
                f"step {self.best.step}"
            )
        return self.best.step == step


def describe(found: Mapping[str, float]) -> str:
    """The numbers of a validation for a line: all, or the score and three of many accuracies.

    These are the first, the last and the best: of the operating points of a space, which come
    cheapest first, both ends.

    Args:
      found: what a `Validate` gives.
    """
    points = [name for name in found if name.startswith(_POINT)]
    if len(points) <= _SHOWN:
        return _listed(found, found)
    best = max(points, key=found.__getitem__)
    shown = _listed(found, [*(name for name in found if name == SCORE), points[0], points[-1]])
    return f"{shown}  best of {len(points)}: {_listed(found, [best])}"


def _listed(found: Mapping[str, float], names: Iterable[str]) -> str:
    return "  ".join(f"{name} {found[name]:.4g}" for name in names)
