"""The one training loop: any family, any phases, restarts included.

    for each phase:
        next batch and draws -> several steps in one dispatch -> log -> validate, save -> stop?

What a step reads and draws is a function of (seed, step) alone, so there is no iterator to
save: a run that was killed goes on from its newest checkpoint to the same final bits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset, load_to_train
from jax_elastic.data.targets import check_teacher
from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.clock import Clock
from jax_elastic.training.events import EventFiles
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.feed import Feed, Portion
from jax_elastic.training.init_from import start_from
from jax_elastic.training.log import Dispatch, Log
from jax_elastic.training.mesh import check_batch_size, make_mesh, replicated
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Span, make_optimizer, spans
from jax_elastic.training.processes import agree, any_of, is_first, say, silent
from jax_elastic.training.profiling import Profiler, step_range
from jax_elastic.training.program import make_program
from jax_elastic.training.saves import Progress, Saves
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import Chunk, Sums
from jax_elastic.training.stop import Stop, Stopped
from jax_elastic.training.trainable import matches, partition
from jax_elastic.training.validation import Validate, Validation
from jax_elastic.training.workdir import EVENTS, METRICS, PROFILE


def train(
    experiment: Experiment,
    workdir: Path,
    validate: Validate | None = None,
    devices: Sequence[jax.Device] | None = None,
    report: Callable[[str], None] = say,
    stop: Stop | None = None,
) -> TrainState:
    """Trains to the end of the last phase, from the newest checkpoint in `workdir` if any.

    Where several processes train together, each calls it with the same arguments; the first one
    writes and reports.

    Args:
      experiment: what to do.
      workdir: gets `checkpoints/`, `best/`, `metrics.jsonl` and `tensorboard/`; all processes see
        the same directory.
      validate: variables -> numbers for the metrics; called in phases that want it. What it
        returns as ``score`` decides which checkpoint is the best, and when patience ends.
      devices: to train on; None for all.
      report: gets each line for the terminal.
      stop: asked after each dispatch (by several processes together, at each metric row); true:
        save and raise `Stopped`, unless nothing is left to do. Each call of `train` gets some way,
        however soon it is asked to stop.

    Returns:
      The final state, replicated over the devices.

    Raises:
      UsageError: see `Experiment.check_complete`, `load_to_train`, `start_from`,
        `check_teacher`, `Checkpoints.restore` and `Profiler`; or patience without
        `validate`.
      NonFiniteLossError: a loss is not finite.
      Stopped: `stop` was true; called again, `train` goes on to the same final bits.
    """
    experiment.check_complete()
    run = _Run(experiment, workdir, validate, devices, report, stop)
    with run.saves, run.metrics, run.profiler:
        state, first = run.start()
        for span in run.spans[first:]:
            if run.validation.patience_ended:
                break
            if int(state.step) == span.start:
                state = run.enter(span, state)
            state = run.phase(span, state)
        run.saves.wait()
        run.report(f"done: step {int(state.step)}, variables {tree_hash(state.variables)}")
    return state


class _Run:
    """What stays the same through a run: experiment, devices, resident data, time line, clock."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        validate: Validate | None,
        devices: Sequence[jax.Device] | None,
        report: Callable[[str], None],
        stop: Stop | None,
    ):
        first = is_first()
        self.experiment, self.stop = experiment, stop
        self.report = report if first else silent
        self.metrics = MetricsFile(workdir / METRICS, EventFiles(workdir / EVENTS), writes=first)
        self.mesh: Mesh = make_mesh(devices)
        data = load_to_train(experiment.data)
        self._check(data)
        self.teacher = data.teacher
        self.spans = spans(experiment.phases_run, len(data))
        self.clock = Clock()
        self.validation = Validation(experiment, validate, self.metrics, self.report)
        # Class names, so that predictions need no data set.
        facts = {"class_names": list(data.class_names), "data": data.fingerprint}
        if data.taxonomy:
            facts["taxonomy"] = data.taxonomy
        self.saves = Saves(workdir, experiment.runtime.keep, self.mesh, self.spans, facts)
        steps, last = step_range(experiment.profile_steps), self.spans[-1].stop
        self.profiler = Profiler(steps, last, workdir / PROFILE, self.report)
        self.feed = Feed(experiment, data, self.mesh, self.profiler.borders)

    def _check(self, data: Dataset) -> None:
        """Refuses what does not fit together before anything is done."""
        network = self.experiment.network
        data.check_classes(network.classes)
        learns_choice = len(network.targets) > len(network.classes)
        data.check_candidates(tuple(map(str, network.candidates)) if learns_choice else ())
        own = list(bytes.fromhex(data.fingerprint))
        if any_of(agree(own) != own):
            raise UsageError(f"the processes do not read the same {data.name}")
        params = jax.eval_shape(self._init, np.uint32(0)).params
        for phase in self.experiment.phases_run:
            check_batch_size(phase.batch_size, self.mesh, phase.name, phase.accumulate)
            trainable, _ = partition(params, phase.trainable)
            # Both refuse a pattern that matches nothing.
            matches(trainable, phase.decayed, "decayed")

    def start(self) -> tuple[TrainState, int]:
        """The state to go on from, and the index of the phase it goes on with."""
        fresh = self._fresh_state()
        restored = self.saves.restore(fresh)
        if restored is None:
            self.metrics.cut_back(-1)
            return self._begin(fresh), 0
        state, progress = restored
        self.metrics.cut_back(progress.step)
        self.clock = Clock(progress.seconds)
        self.validation.best = progress.best
        self.report(f"resuming at step {progress.step} of {self.spans[-1].stop}")
        self.profiler.resumed(progress.step)
        # A checkpoint at a phase's last step belongs to that phase, which is over.
        return state, progress.phase + (progress.step == self.spans[progress.phase].stop)

    def _begin(self, fresh: TrainState) -> TrainState:
        """The state at step 0: fresh, or with the weights of another run."""
        if caution := self.experiment.caution:
            self.report(caution)
        if not self.experiment.init_from:
            check_teacher(self.teacher, "")
            return fresh
        start = start_from(
            self.experiment.init_from,
            self.experiment.network,
            fresh.variables,
            self.experiment.phases_run,
            replicated(self.mesh),
        )
        check_teacher(self.teacher, start.row["init_hash"])
        self.metrics.append(start.row)
        for line in start.lines:
            self.report(line)
        return self._with_ema(fresh._replace(**start.variables))

    def _with_ema(self, state: TrainState) -> TrainState:
        """The state with an average that begins where its variables are."""
        if not self.experiment.ema_decay:
            return state
        # Arrays of their own, for a dispatch takes over the memory of all.
        everywhere = replicated(self.mesh)
        copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=everywhere)
        return state._replace(ema=copy(state.variables))

    def _init(self, seed: jax.Array) -> TrainState:
        images = jnp.zeros((1, *self.experiment.data.image_shape), jnp.float32)
        key = rng.device(seed, rng.Stream.INIT)
        variables = self.experiment.network.init(key, images)
        return TrainState(variables["params"], variables["stats"], (), jnp.int32(0), seed)

    def _fresh_state(self) -> TrainState:
        compiled = jax.jit(self._init, out_shardings=replicated(self.mesh))
        return self._with_ema(compiled(np.uint32(self.experiment.seed)))

    def enter(self, span: Span, state: TrainState) -> TrainState:
        """The state at a phase's start: a new optimizer over what the phase trains."""
        trainable, _ = partition(state.params, span.phase.trainable)
        init = jax.jit(make_optimizer(span).init, out_shardings=replicated(self.mesh))
        return state._replace(opt_state=init(trainable))

    def phase(self, span: Span, state: TrainState) -> TrainState:
        """Trains one phase to its end, or to that of patience."""
        chunk = make_program(self.experiment, span, self.mesh)
        good = self.saves.finished
        log = Log(self.metrics, self.report, span, self.spans[-1], good, self.clock)
        compiled: frozenset[object] = frozenset()
        step = int(state.step)
        while step < span.stop and not self.validation.patience_ended:
            portion = self.feed.portion(span, step)
            if portion.programs - compiled:
                log.drain()
                state = self._compile(chunk, state, portion)
                compiled |= portion.programs
            if self.profiler.turns(step):
                log.drain()
                self.profiler.turn()
            self.clock.run()
            with self.profiler.mark(step):
                state, losses, sums = self._dispatch(chunk, state, portion, portion.n)
            step += portion.n
            due = self._due(span, step)
            log.dispatched(Dispatch(step, portion.n, losses, sums), due.row)
            if due.validation:
                log.drain()
                if self.validation(span, step, state):
                    self.saves.save_best(state, self._progress(span, step))
            if due.save or self.validation.patience_ended:
                # Only a state whose losses are known to be finite may become a checkpoint.
                log.drain()
                self.saves.save(state, self._progress(span, step))
            if due.stop:
                self.saves.wait()
                raise Stopped(step)
        return state

    def _progress(self, span: Span, step: int) -> Progress:
        return Progress(step, span.index, self.clock.seconds, self.validation.best)

    def _compile(self, chunk: Chunk, state: TrainState, portion: Portion) -> TrainState:
        """Compiles by doing no step: the state, handed back bit for bit, once that is done."""
        state, losses, _ = self._dispatch(chunk, state, portion, 0)
        losses.block_until_ready()
        return state

    def _dispatch(
        self, chunk: Chunk, state: TrainState, portion: Portion, n: int
    ) -> tuple[TrainState, jax.Array, Sums]:
        return chunk(state, self.feed.arrays, portion.ids, portion.draws, np.int32(n))

    def _due(self, span: Span, step: int) -> "_Due":
        """What is done after a step."""
        runtime = self.experiment.runtime
        ends = step == span.stop
        validation = self.validation.due(span, step)
        save = ends or step % runtime.save_every == 0
        row = validation or save or step % runtime.log_every == 0
        stop = step < self.spans[-1].stop and self._stops(row)
        return _Due(row or stop, validation, save or stop, stop)

    def _stops(self, row: bool) -> bool:
        """Whether this process is asked to stop, or one of several that train together."""
        if self.stop is None:
            return False
        # All processes ask each other, which waits for the devices: not after every dispatch.
        return self.stop() if jax.process_count() == 1 else row and any_of(self.stop())


class _Due(NamedTuple):
    """What is done after a dispatch: a metric row, a validation, a checkpoint, the end."""

    row: bool
    validation: bool
    save: bool
    stop: bool
