"""The one training loop: any family, any phases, restarts included.

    for each phase: next batch and draws -> several steps in one dispatch -> log -> validate, save

What a step reads and draws is a function of (seed, step) alone, so there is no iterator to
save: a run that was killed goes on from its newest checkpoint to the same final bits.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset, load
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.family import Draw, Variables
from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import Checkpoints, Items, Meta, abstract, tree_hash
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.log import Dispatch, Log, diverged
from jax_elastic.training.mesh import check_batch_size, make_mesh, replicated, sharded
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Span, make_optimizer, spans
from jax_elastic.training.state import TrainState, is_finite
from jax_elastic.training.step import Chunk, Draws, make_chunk, make_step
from jax_elastic.training.sum_of_grads import stack_draws
from jax_elastic.training.trainable import partition
from jax_elastic.training.workdir import CHECKPOINTS, METRICS

PyTree = Any
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
) -> TrainState:
    """Trains to the end of the last phase, from the newest checkpoint in `workdir` if any.

    Args:
      experiment: what to do.
      workdir: gets `checkpoints/` and `metrics.jsonl`.
      validate: variables -> numbers for the metrics; called in phases that want it.
      devices: to train on; None for all.
      report: gets each line for the terminal.

    Returns:
      The final state, replicated over the devices.

    Raises:
      UsageError: see `Experiment`, `load` and `Checkpoints.restore`.
      NonFiniteLossError: a loss is not finite.
    """
    run = _Run(experiment, workdir, validate, devices, report)
    with Checkpoints(workdir / CHECKPOINTS, experiment.runtime.keep) as checkpoints:
        state, first = run.start(checkpoints)
        for span in run.spans[first:]:
            if int(state.step) == span.start:
                state = run.enter(span, state)
            state = run.phase(span, state, checkpoints)
        checkpoints.wait()
        run.report(f"done: step {int(state.step)}, variables {tree_hash(state.variables)}")
    return state


class _Run:
    """What stays the same through a run: experiment, devices, resident data, time line."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        validate: Validate | None,
        devices: Sequence[jax.Device] | None,
        report: Callable[[str], None],
    ):
        self.experiment = experiment
        self.validate = validate
        self.report = report
        self.metrics = MetricsFile(workdir / METRICS)
        self.mesh: Mesh = make_mesh(devices)
        self.data: Dataset = load(experiment.data, "train")
        if self.data.classes[: len(experiment.network.classes)] != experiment.network.classes:
            raise UsageError(
                f"the network has {experiment.network.classes} classes, "
                f"{self.data.name} has {self.data.classes}",
                next_step="set the classes of config.network to the data's",
            )
        params = jax.eval_shape(self._init, np.uint32(0)).params
        for phase in experiment.phases:
            check_batch_size(phase.batch_size, self.mesh, phase.name)
            partition(params, phase.trainable)  # refuses a pattern that matches nothing
        self.spans = spans(experiment.phases, len(self.data))
        everywhere = replicated(self.mesh)
        self.arrays = {
            "image": jax.device_put(self.data.images, everywhere),
            "labels": jax.device_put(self.data.labels, everywhere),
        }

    def start(self, checkpoints: Checkpoints) -> tuple[TrainState, int]:
        """The state to go on from, and the index of the phase it goes on with."""
        fresh = self._fresh_state()
        restored = checkpoints.restore(lambda meta: self._targets(meta, fresh))
        if restored is None:
            self.metrics.cut_back(-1)
            return fresh, 0
        items, meta = restored
        step, index = int(meta["step"]), int(meta["phase"])
        self.metrics.cut_back(step)
        self.report(f"resuming at step {step} of {self.spans[-1].stop}")
        state = fresh._replace(
            **items["variables"],
            opt_state=items["opt_state"],
            step=jax.device_put(np.int32(step), replicated(self.mesh)),
        )
        # A checkpoint at a phase's last step belongs to that phase, which is over.
        return state, index + (step == self.spans[index].stop)

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
        meta = {"phase": span.index, "phase_name": span.phase.name}
        items = {"variables": state.variables, "opt_state": state.opt_state}
        checkpoints.save(int(state.step), items, meta)

    def phase(self, span: Span, state: TrainState, checkpoints: Checkpoints) -> TrainState:
        """Trains one phase to its end."""
        chunk = self._compile(span)
        log = Log(self.metrics, self.report, span, self.spans[-1], checkpoints.finished)
        step = int(state.step)
        while step < span.stop:
            ids, draws, n = self._next(span, step)
            state, losses, sums = chunk(state, self.arrays, ids, draws, np.int32(n))
            step += n
            validates, saves = self._validates(span, step), self._saves(span, step)
            due = validates or saves or step % self.experiment.runtime.log_every == 0
            log.dispatched(Dispatch(step, n, losses, sums), due)
            if validates:
                log.drain()
                self._validate(span, step, state)
                log.restart_clock()
            if saves:
                # Only a state whose losses are known to be finite may become a checkpoint.
                log.drain()
                self._save(span, state, checkpoints)
                log.restart_clock()
        return state

    def _validates(self, span: Span, step: int) -> bool:
        if self.validate is None or not span.phase.validate:
            return False
        every = self.experiment.runtime.validate_every
        return step == span.stop or (every > 0 and step % every == 0)

    def _saves(self, span: Span, step: int) -> bool:
        return step == span.stop or step % self.experiment.runtime.save_every == 0

    def _compile(self, span: Span) -> Chunk:
        experiment = self.experiment
        step = make_step(
            experiment.network,
            span.phase,
            make_optimizer(span),
            experiment.form,
        )
        classes = experiment.network.classes
        return make_chunk(step, experiment.data, classes, self.mesh)

    def _next(self, span: Span, step: int) -> tuple[jax.Array, Draws, int]:
        """Images and draws of the next dispatch, and how many steps it does.

        It ends at the next boundary of any kind, or where the draws' structure changes. Rows
        are padded to a full dispatch.
        """
        experiment, runtime = self.experiment, self.experiment.runtime
        k = experiment.steps_per_dispatch
        grid = [k, runtime.log_every, runtime.save_every, runtime.validate_every or k]
        stop = min(span.stop, *((step // every + 1) * every for every in grid))
        draws: list[Draws] = []
        for s in range(step, stop):
            draw = self._draw(span, s)
            if draws and not _same_structure(draw, draws[0]):
                break
            draws.append(draw)
        n = len(draws)
        batch = span.phase.batch_size
        ids = np.zeros((k, batch), np.int32)
        for i in range(n):
            ids[i] = batch_ids(
                experiment.seed, span.index, step + i - span.start, len(self.data), batch
            )
        padded = draws + [draws[-1]] * (k - n)
        stacked: Draws = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        return jax.device_put(ids, sharded(self.mesh, axis=1)), stacked, n

    def _draw(self, span: Span, step: int) -> Draws:
        experiment = self.experiment
        generator = rng.host(experiment.seed, rng.Stream.DRAWS, step)
        draws: tuple[Draw, ...] = experiment.network.draws(generator, span.when(step))
        if experiment.form == "sliced":
            return draws
        return stack_draws(draws, experiment.network.subnets)

    def _validate(self, span: Span, step: int, state: TrainState) -> None:
        assert self.validate is not None
        found = dict(self.validate(state.variables))
        where = {"kind": "validation", "step": step, "phase": span.phase.name}
        self.metrics.append({**where, **found})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        self.report(f"{span.phase.name:>8}  step {step}  validation  {shown}")


def _same_structure(a: PyTree, b: PyTree) -> bool:
    structure: Any = jax.tree.structure(a)
    return bool(structure == jax.tree.structure(b))
