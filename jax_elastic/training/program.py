"""What does the dispatches of a phase: one program, one per draw, or one per segment."""

from functools import partial
from typing import cast

import jax
from jax.sharding import Mesh

from jax_elastic.elastic.abilities import StagedFamily
from jax_elastic.elastic.family import BY_HOST, Form
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.feed import programs_of
from jax_elastic.training.host import HostChunk
from jax_elastic.training.mesh import platform_of, replicated
from jax_elastic.training.phases import Span, make_optimizer
from jax_elastic.training.staged import StagedGradients
from jax_elastic.training.step import (
    Chunk,
    Gradients,
    make_chunk,
    make_gradients,
    make_step,
    make_update,
)


def make_program(experiment: Experiment, span: Span, mesh: Mesh) -> Chunk:
    """The (state, arrays, ids, draws, n) -> (state, losses, sums) of a phase, see `make_chunk`.

    Called with n = 0 it compiles all that the draws need and hands the state back bit for bit.
    """
    network, optimizer = experiment.network, make_optimizer(span)
    form = experiment.form_in(span.phase, platform_of(mesh))
    decay, data = experiment.ema_decay, experiment.data
    measured = experiment.runtime.gradients
    if form in BY_HOST:
        update = make_update(network, span.phase, optimizer, decay, span.start, measured)
        gradients = _gradients(experiment, span, form, mesh)
        programs = partial(programs_of, form=form, network=network)
        return HostChunk(gradients, update, programs, data, network.targets, mesh)
    step = make_step(network, span.phase, optimizer, form, decay, span.start, measured)
    return make_chunk(step, data, network.targets, mesh)


def _gradients(experiment: Experiment, span: Span, form: Form, mesh: Mesh) -> Gradients:
    """The first half of a step for one draw, to be called by the host."""
    if form == "staged":
        return StagedGradients(cast(StagedFamily, experiment.network), span.phase, mesh)
    gradients = make_gradients(experiment.network, span.phase, form)
    return jax.jit(gradients, out_shardings=replicated(mesh))
