"""The checkpoints of a run: the newest states, to go on from, and the best weights, to be used."""

from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import jax
import numpy as np
from jax.sharding import Mesh

from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import Checkpoints, Items, Meta, abstract
from jax_elastic.training.log import diverged
from jax_elastic.training.mesh import put, replicated
from jax_elastic.training.phases import Span, make_optimizer
from jax_elastic.training.state import TrainState, is_finite
from jax_elastic.training.trainable import partition
from jax_elastic.training.validation import Best
from jax_elastic.training.workdir import BEST, CHECKPOINTS, weights_alone


class Progress(NamedTuple):
    """How far a run is, beside its state.

    Attributes:
      step: steps done.
      phase: index of the phase that they end in.
      seconds: of training.
      best: of the validations.
    """

    step: int
    phase: int
    seconds: float
    best: Best


class Saves:
    """The checkpoints of a run; a context manager, so that the last save is always finished.

    Args:
      workdir: gets `checkpoints/`, and `best/` once a best one is saved.
      keep: how many of the newest are kept.
      mesh: where restored states are put.
      spans: the phases of the run.
      facts: JSON values that the meta of every checkpoint has, and has to have where a run
        goes on.
    """

    def __init__(self, workdir: Path, keep: int, mesh: Mesh, spans: tuple[Span, ...], facts: Meta):
        self._newest = Checkpoints(workdir / CHECKPOINTS, keep)
        self._best: Checkpoints | None = None
        self._workdir, self._best_directory = workdir, workdir / BEST
        self._everywhere, self._spans, self._facts = replicated(mesh), spans, facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for checkpoints in self._open():
            checkpoints.__exit__(kind, error, trace)

    def wait(self) -> None:
        """Returns when all that was saved lies on disk."""
        for checkpoints in self._open():
            checkpoints.wait()

    def finished(self) -> int | None:
        """The newest step that lies on disk, once the last save is done."""
        return self._newest.finished()

    def restore(self, fresh: TrainState) -> tuple[TrainState, Progress] | None:
        """The newest whole state, if there is any; `fresh` gives its shapes and the seed.

        Raises:
          UsageError: see `Checkpoints.restore`; or the training set is another one by now.
        """
        found = self._newest.restore(lambda meta: self._targets(meta, fresh))
        if found is None:
            return None
        items, meta = found
        step = int(meta["step"])
        state = fresh._replace(
            **items["variables"],
            opt_state=items["opt_state"],
            step=put(np.int32(step), self._everywhere),
            ema=items.get("ema", ()),
        )
        # Older checkpoints have neither.
        best = Best.from_meta(meta.get("best"))
        return state, Progress(step, int(meta["phase"]), meta.get("seconds", 0.0), best)

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves a state to go on from, in the background.

        Raises:
          NonFiniteLossError: it holds a NaN or an infinity.
        """
        self._check(state, progress)
        if self._best is not None:
            # The meta of this one names it, and a kill may come between the two.
            self._best.wait()
        items = {"variables": state.variables, "opt_state": state.opt_state}
        if state.ema:
            items["ema"] = state.ema
        self._newest.save(progress.step, items, self._meta(progress))

    def save_best(self, state: TrainState, progress: Progress) -> None:
        """Saves what is evaluated of the state with the best score so far, in the background.

        Raises:
          NonFiniteLossError: it holds a NaN or an infinity.
        """
        self._check(state, progress)
        if self._best is None:
            self._best = Checkpoints(self._best_directory, keep=1)
        self._best.save(progress.step, {"variables": state.evaluated}, self._meta(progress))

    def _open(self) -> list[Checkpoints]:
        return [self._newest] if self._best is None else [self._newest, self._best]

    def _meta(self, progress: Progress) -> Meta:
        phase = self._spans[progress.phase].phase
        return {
            **self._facts,
            "phase": progress.phase,
            "phase_name": phase.name,
            "planned": self._spans[-1].stop,
            "seconds": progress.seconds,
            "best": progress.best.to_meta(),
        }

    def _check(self, state: TrainState, progress: Progress) -> None:
        if not is_finite((state.variables, state.opt_state, state.ema)):
            what = f"the state is not finite after step {progress.step}"
            raise diverged(what, self._spans[progress.phase], self.finished())

    def _targets(self, meta: Meta, fresh: TrainState) -> Items:
        """What a checkpoint of the phase in `meta` holds, as shapes with shardings."""
        # Older checkpoints lack some.
        changed = [name for name, fact in self._facts.items() if meta.get(name, fact) != fact]
        if changed:
            raise UsageError(
                f"the training set is not the one of checkpoint {meta['step']}: it has "
                f"{'other classes' if 'class_names' in changed else 'other images or labels'}",
                next_step="put it back as it was, or choose another --workdir",
            )
        if "opt_state" not in meta["hashes"]:
            raise weights_alone(self._workdir, meta["step"])
        span = self._spans[int(meta["phase"])]
        trainable, _ = partition(fresh.params, span.phase.trainable)
        opt_state = jax.eval_shape(make_optimizer(span).init, trainable)
        items: Items = {"variables": fresh.variables, "opt_state": opt_state}
        if fresh.ema:
            items["ema"] = fresh.ema
        return abstract(items, self._everywhere)
