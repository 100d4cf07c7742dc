"""What does the dispatches of a phase: one program, or one per draw."""

from jax.sharding import Mesh

from jax_elastic.training.experiment import Experiment
from jax_elastic.training.host import HostChunk
from jax_elastic.training.mesh import platform_of
from jax_elastic.training.phases import Span, make_optimizer
from jax_elastic.training.step import Chunk, make_chunk, make_gradients, make_step, make_update


def make_program(experiment: Experiment, span: Span, mesh: Mesh) -> Chunk:
    """The (state, arrays, ids, draws, n) -> (state, losses, sums) of a phase, see `make_chunk`.

    Called with n = 0 it compiles all that the draws need and hands the state back bit for bit.
    """
    network, optimizer = experiment.network, make_optimizer(span)
    form = experiment.form_in(span.phase, platform_of(mesh))
    decay, data = experiment.ema_decay, experiment.data
    if form == "host":
        gradients = make_gradients(network, span.phase, form)
        update = make_update(network, span.phase, optimizer, decay, span.start)
        return HostChunk(gradients, update, data, network.classes, mesh)
    step = make_step(network, span.phase, optimizer, form, decay, span.start)
    return make_chunk(step, data, network.classes, mesh)
