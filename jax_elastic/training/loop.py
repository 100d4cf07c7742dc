"""The one training loop: any family, any phases, restarts included.

    for each phase:
        next batch and draws -> several steps in one dispatch -> log -> validate, save -> stop?

What a step reads and draws is a function of (seed, step) alone, so there is no iterator to
save: a run that was killed goes on from its newest checkpoint to the same final bits.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset, load
from jax_elastic.elastic.family import Variables
from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import Checkpoints, Items, Meta, abstract, tree_hash
from jax_elastic.training.clock import Clock
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.feed import Feed, Portion
from jax_elastic.training.init_from import start_from
from jax_elastic.training.log import Dispatch, Log, diverged
from jax_elastic.training.mesh import check_batch_size, make_mesh, replicated
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Span, make_optimizer, spans
from jax_elastic.training.profiling import Profiler, step_range
from jax_elastic.training.state import TrainState, is_finite
from jax_elastic.training.step import Chunk, Sums, make_chunk, make_step
from jax_elastic.training.stop import Stop, Stopped
from jax_elastic.training.trainable import partition
from jax_elastic.training.workdir import CHECKPOINTS, METRICS, PROFILE

Validate = Callable[[Variables], Mapping[str, float]]


def say(line: str) -> None:
    """Prints a line at once, also into a pipe, so that a kill loses nothing."""
    print(line, flush=True)


def train(
    experiment: Experiment,
    workdir: Path,
    validate: Validate | None = None,
    devices: Sequence[jax.Device] | None = None,
    report: Callable[[str], None] = say,
    stop: Stop | None = None,
) -> TrainState:
    """Trains to the end of the last phase, from the newest checkpoint in `workdir` if any.

    Args:
      experiment: what to do.
      workdir: gets `checkpoints/` and `metrics.jsonl`.
      validate: variables -> numbers for the metrics; called in phases that want it.
      devices: to train on; None for all.
      report: gets each line for the terminal.
      stop: asked after each dispatch; true: save and raise `Stopped`, unless nothing is left to
        do. Each call of `train` gets some way, however soon it is asked to stop.

    Returns:
      The final state, replicated over the devices.

    Raises:
      UsageError: see `Experiment`, `load`, `Checkpoints.restore` and `Profiler`.
      NonFiniteLossError: a loss is not finite.
      Stopped: `stop` was true; called again, `train` goes on to the same final bits.
    """
    run = _Run(experiment, workdir, validate, devices, report, stop)
    keep = experiment.runtime.keep
    with Checkpoints(workdir / CHECKPOINTS, keep) as checkpoints, run.profiler:
        state, first = run.start(checkpoints)
        for span in run.spans[first:]:
            if int(state.step) == span.start:
                state = run.enter(span, state)
            state = run.phase(span, state, checkpoints)
        checkpoints.wait()
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
        self.experiment = experiment
        self.validate, self.report, self.stop = validate, report, stop
        self.metrics = MetricsFile(workdir / METRICS)
        self.mesh: Mesh = make_mesh(devices)
        data = load(experiment.data, "train")
        self._check(data)
        self.class_names = data.class_names
        self.spans = spans(experiment.phases_run, len(data))
        steps = step_range(experiment.profile_steps)
        self.profiler = Profiler(steps, self.spans[-1].stop, workdir / PROFILE, report)
        self.feed = Feed(experiment, data, self.mesh, self.profiler.borders)
        self.clock = Clock()

    def _check(self, data: Dataset) -> None:
        """Refuses what does not fit together before anything is done."""
        classes = self.experiment.network.classes
        if data.classes[: len(classes)] != classes:
            raise UsageError(
                f"the network has {classes} classes, {data.name} has {data.classes}",
                next_step="set the classes of config.network to the data's",
            )
        params = jax.eval_shape(self._init, np.uint32(0)).params
        for phase in self.experiment.phases_run:
            check_batch_size(phase.batch_size, self.mesh, phase.name)
            partition(params, phase.trainable)  # refuses a pattern that matches nothing

    def start(self, checkpoints: Checkpoints) -> tuple[TrainState, int]:
        """The state to go on from, and the index of the phase it goes on with."""
        fresh = self._fresh_state()
        restored = checkpoints.restore(lambda meta: self._targets(meta, fresh))
        if restored is None:
            self.metrics.cut_back(-1)
            return self._begin(fresh), 0
        items, meta = restored
        step, index = int(meta["step"]), int(meta["phase"])
        self.metrics.cut_back(step)
        self.clock = Clock(meta.get("seconds", 0.0))  # older checkpoints have none
        self.report(f"resuming at step {step} of {self.spans[-1].stop}")
        self.profiler.resumed(step)
        state = fresh._replace(
            **items["variables"],
            opt_state=items["opt_state"],
            step=jax.device_put(np.int32(step), replicated(self.mesh)),
        )
        # A checkpoint at a phase's last step belongs to that phase, which is over.
        return state, index + (step == self.spans[index].stop)

    def _begin(self, fresh: TrainState) -> TrainState:
        """The state at step 0: fresh, or with the weights of another run."""
        if not self.experiment.init_from:
            return fresh
        start = start_from(
            self.experiment.init_from,
            fresh.variables,
            self.experiment.phases_run,
            replicated(self.mesh),
        )
        self.metrics.append(start.row)
        for line in start.lines:
            self.report(line)
        return fresh._replace(**start.variables)

    def _init(self, seed: jax.Array) -> TrainState:
        images = jnp.zeros((1, *self.experiment.data.image_shape), jnp.float32)
        key = rng.device(seed, rng.Stream.INIT)
        variables = self.experiment.network.init(key, images)
        return TrainState(variables["params"], variables["stats"], (), jnp.int32(0), seed)

    def _fresh_state(self) -> TrainState:
        compiled = jax.jit(self._init, out_shardings=replicated(self.mesh))
        return compiled(np.uint32(self.experiment.seed))  # type: ignore[no-any-return]

    def enter(self, span: Span, state: TrainState) -> TrainState:
        """The state at a phase's start: a new optimizer over what the phase trains."""
        trainable, _ = partition(state.params, span.phase.trainable)
        init = jax.jit(make_optimizer(span).init, out_shardings=replicated(self.mesh))
        return state._replace(opt_state=init(trainable))

    def _targets(self, meta: Meta, fresh: TrainState) -> Items:
        """What a checkpoint of the phase in `meta` holds, as shapes with shardings."""
        span = self.spans[int(meta["phase"])]
        trainable, _ = partition(fresh.params, span.phase.trainable)
        opt_state = jax.eval_shape(make_optimizer(span).init, trainable)
        return abstract(
            {"variables": fresh.variables, "opt_state": opt_state}, replicated(self.mesh)
        )

    def _save(self, span: Span, state: TrainState, checkpoints: Checkpoints) -> None:
        if not is_finite((state.variables, state.opt_state)):
            what = f"the state is not finite after step {int(state.step)}"
            raise diverged(what, span, checkpoints.finished())
        meta = {
            "phase": span.index,
            "phase_name": span.phase.name,
            "seconds": self.clock.seconds,
            "class_names": self.class_names,  # so that predictions need no data set
        }
        items = {"variables": state.variables, "opt_state": state.opt_state}
        checkpoints.save(int(state.step), items, meta)

    def phase(self, span: Span, state: TrainState, checkpoints: Checkpoints) -> TrainState:
        """Trains one phase to its end."""
        chunk = self._program(span)
        good = checkpoints.finished
        log = Log(self.metrics, self.report, span, self.spans[-1], good, self.clock)
        compiled = set()
        step = int(state.step)
        while step < span.stop:
            portion = self.feed.portion(span, step)
            if portion.structure not in compiled:
                log.drain()
                state = self._compile(chunk, state, portion)
                compiled.add(portion.structure)
            if self.profiler.turns(step):
                log.drain()
                self.profiler.turn()
            self.clock.run()
            with self.profiler.mark(step):
                state, losses, sums = self._dispatch(chunk, state, portion, portion.n)
            step += portion.n
            stops = self._stops(step)
            validates, saves = self._validates(span, step), stops or self._saves(span, step)
            due = validates or saves or step % self.experiment.runtime.log_every == 0
            log.dispatched(Dispatch(step, portion.n, losses, sums), due)
            if validates:
                log.drain()
                self._validate(span, step, state)
            if saves:
                # Only a state whose losses are known to be finite may become a checkpoint.
                log.drain()
                self._save(span, state, checkpoints)
            if stops:
                checkpoints.wait()
                raise Stopped(step)
        return state

    def _program(self, span: Span) -> Chunk:
        experiment, optimizer = self.experiment, make_optimizer(span)
        step = make_step(experiment.network, span.phase, optimizer, experiment.form)
        return make_chunk(step, experiment.data, experiment.network.classes, self.mesh)

    def _compile(self, chunk: Chunk, state: TrainState, portion: Portion) -> TrainState:
        """Compiles by doing no step: the state, handed back bit for bit, once that is done."""
        state, losses, _ = self._dispatch(chunk, state, portion, 0)
        losses.block_until_ready()
        return state

    def _dispatch(
        self, chunk: Chunk, state: TrainState, portion: Portion, n: int
    ) -> tuple[TrainState, jax.Array, Sums]:
        return chunk(state, self.feed.arrays, portion.ids, portion.draws, np.int32(n))

    def _stops(self, step: int) -> bool:
        return step < self.spans[-1].stop and self.stop is not None and self.stop()

    def _validates(self, span: Span, step: int) -> bool:
        if self.validate is None or not span.phase.validate:
            return False
        every = self.experiment.runtime.validate_every
        return step == span.stop or (every > 0 and step % every == 0)

    def _saves(self, span: Span, step: int) -> bool:
        return step == span.stop or step % self.experiment.runtime.save_every == 0

    def _validate(self, span: Span, step: int, state: TrainState) -> None:
        assert self.validate is not None
        found = dict(self.validate(state.variables))
        where = {"kind": "validation", "step": step, "phase": span.phase.name}
        self.metrics.append({**where, **found})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        self.report(f"{span.phase.name:>8}  step {step}  validation  {shown}")
