"""The one training loop: any family, any phases, restarts included.

    for each phase: next batch and draws -> several steps in one dispatch -> log -> validate, save

What a step reads and draws is a function of (seed, step) alone, so there is no iterator to
save: a run that was killed goes on from its newest checkpoint to the same final bits.
"""

import time
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
from jax_elastic.training.mesh import check_batch_size, make_mesh, replicated, sharded
from jax_elastic.training.metrics import MetricsFile, means, progress_line
from jax_elastic.training.phases import Span, make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import Chunk, Draws, make_chunk, make_step
from jax_elastic.training.sum_of_grads import stack_draws
from jax_elastic.training.trainable import partition

PyTree = Any
Validate = Callable[[Variables], Mapping[str, float]]


class NonFiniteLossError(UsageError):
    """Training diverged: the loss of a step is NaN or infinite."""


def train(
    experiment: Experiment,
    workdir: Path,
    validate: Validate | None = None,
    devices: Sequence[jax.Device] | None = None,
    report: Callable[[str], None] = print,
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
    with Checkpoints(workdir / "checkpoints", experiment.runtime.keep) as checkpoints:
        state, first = run.start(checkpoints)
        for span in run.spans[first:]:
            if int(state.step) == span.start:
                state = run.enter(span, state)
            state = run.phase(span, state, checkpoints)
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
        self.metrics = MetricsFile(workdir / "metrics.jsonl")
        self.mesh: Mesh = make_mesh(devices)
        self.data: Dataset = load(experiment.data, "train")
        if self.data.classes[: len(experiment.network.classes)] != experiment.network.classes:
            raise UsageError(
                f"the network has {experiment.network.classes} classes, "
                f"{self.data.name} has {self.data.classes}",
                next_step="set the classes of config.network to the data's",
            )
        for phase in experiment.phases:
            check_batch_size(phase.batch_size, self.mesh, phase.name)
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
        state = TrainState(
            params=items["variables"]["params"],
            stats=items["variables"]["stats"],
            opt_state=items["opt_state"],
            step=jax.device_put(np.int32(step), replicated(self.mesh)),
        )
        # A checkpoint at a phase's last step belongs to that phase, which is over.
        return state, index + (step == self.spans[index].stop)

    def _fresh_state(self) -> TrainState:
        images = jnp.zeros((1, *self.experiment.data.image_shape), jnp.float32)

        def init() -> TrainState:
            key = rng.device(self.experiment.seed, rng.Stream.INIT)
            variables = self.experiment.network.init(key, images)
            return TrainState(variables["params"], variables["stats"], (), jnp.int32(0))

        return jax.jit(init, out_shardings=replicated(self.mesh))()  # type: ignore[no-any-return]

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
        meta = {"phase": span.index, "phase_name": span.phase.name}
        items = {"variables": state.variables, "opt_state": state.opt_state}
        checkpoints.save(int(state.step), items, meta)

    def phase(self, span: Span, state: TrainState, checkpoints: Checkpoints) -> TrainState:
        """Trains one phase to its end."""
        chunk = self._compile(span)
        log = _Log(self, span, checkpoints)
        step = int(state.step)
        while step < span.stop:
            ids, draws, n = self._next(span, step)
            state, losses, sums = chunk(state, self.arrays, ids, draws, np.int32(n))
            step += n
            log.dispatched(step, n, losses, sums)
            runtime = self.experiment.runtime
            at_end = step == span.stop
            saves = at_end or step % runtime.save_every == 0
            if saves or step % runtime.log_every == 0:
                log.due()
            if self._validates(span, step):
                log.drain()
                self._validate(span, step, state)
                log.restart_clock()
            if saves:
                # Only a state whose losses are known to be finite may become a checkpoint.
                log.drain()
                self._save(span, state, checkpoints)
        return state

    def _validates(self, span: Span, step: int) -> bool:
        if self.validate is None or not span.phase.validate:
            return False
        every = self.experiment.runtime.validate_every
        return step == span.stop or (every > 0 and step % every == 0)

    def _compile(self, span: Span) -> Chunk:
        experiment = self.experiment
        step = make_step(
            experiment.network,
            span.phase,
            make_optimizer(span),
            experiment.form,
            experiment.seed,
        )
        classes = experiment.network.classes
        return make_chunk(step, experiment.data, classes, self.mesh, experiment.seed)

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


class _Log:
    """Reads the metrics of a dispatch after the next one has started, so nothing ever waits.

    Sums are added up until a row is `due`; the row is written when its last dispatch is read.
    """

    def __init__(self, run: _Run, span: Span, checkpoints: Checkpoints):
        self._run, self._span, self._checkpoints = run, span, checkpoints
        self._pending: tuple[int, int, Any, Any] | None = None
        self._due = False
        self._total: dict[str, Any] = {}
        self._steps = 0
        self._clock: float | None = None  # set once compiled, so that speed leaves it out
        self._timed = 0

    def dispatched(self, step: int, n: int, losses: Any, sums: Any) -> None:
        """Hands over the results of a dispatch that ends at `step`; reads the one before."""
        previous, self._pending = self._pending, (step, n, losses, sums)
        if previous is not None:
            self._read(previous, self._due)
            self._due = False

    def due(self) -> None:
        """A row ends with the dispatch that was handed over last."""
        self._due = True

    def drain(self) -> None:
        """Reads everything now."""
        if self._pending is not None:
            previous, self._pending = self._pending, None
            self._read(previous, self._due)
            self._due = False

    def restart_clock(self) -> None:
        """Leaves the time since the last row out of the next one's speed."""
        if self._clock is not None:
            self._clock = time.monotonic()

    def _read(self, dispatch: tuple[int, int, Any, Any], due: bool) -> None:
        step, n, device_losses, device_sums = dispatch
        losses, sums = jax.device_get((device_losses, device_sums))
        bad = np.flatnonzero(~np.isfinite(losses[:n]))
        if bad.size:
            self._refuse(step - n + int(bad[0]), float(losses[bad[0]]))
        for name, (total, count) in sums.items():
            old = self._total.get(name, (0.0, 0.0))
            self._total[name] = (old[0] + total, old[1] + count)
        self._steps += n
        self._timed += n if self._clock is not None else 0
        if self._clock is None:
            self._clock = time.monotonic()
        if due:
            self._write(step)

    def _write(self, step: int) -> None:
        run, span, last = self._run, self._span, self._run.spans[-1]
        assert self._clock is not None
        now = time.monotonic()
        speed = self._timed / max(now - self._clock, 1e-9) if self._timed else None
        row = {
            "kind": "train",
            "step": step,
            "phase": span.phase.name,
            "epoch": span.when(step).epoch,
            "steps": self._steps,
            **means(self._total),
            "images_per_second": speed and speed * span.phase.batch_size,
            "seconds_to_go": speed and (last.stop - step) / speed,
        }
        run.metrics.append(row)
        epochs = last.start_epoch + last.steps / last.steps_per_epoch
        run.report(progress_line(row, last.stop, epochs))
        self._total, self._steps, self._timed, self._clock = {}, 0, 0, now

    def _refuse(self, step: int, loss: float) -> None:
        good = self._checkpoints.latest
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step}, phase {self._span.phase.name!r}",
            f"the last good checkpoint is step {good}" if good is not None else "no checkpoint",
            "lower the learning rate of that phase, or look at its inputs",
        )
