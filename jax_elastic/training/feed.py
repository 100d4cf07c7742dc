"""What feeds a dispatch: where it ends, and the images and draws of its steps.

All of it is a function of (seed, step), so a restarted run is fed what the first one would have
been.
"""

import itertools
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.family import BY_HOST, Draw, Family, Form
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import platform_of, put, replicated, sharded
from jax_elastic.training.phases import Span
from jax_elastic.training.sum_of_grads import Draws, given


class Drawn(NamedTuple):
    """The draws of one dispatch of k steps at most.

    Attributes:
      draws: with leading axis k, rows from n on are padding; of `BY_HOST` one tuple per step.
      n: for how many steps they are.
      programs: what has to be compiled for them: the static parts; hashable.
    """

    draws: Draws | tuple[Draws, ...]
    n: int
    programs: frozenset[Any]


def of_dispatch(steps: Iterable[tuple[Draw, ...]], k: int, form: Form, network: Family) -> Drawn:
    """The draws of as many steps as go into one dispatch.

    One program reads draws of one structure, so there a dispatch ends where the structure
    changes; where the host calls (`BY_HOST`), it goes on.

    Args:
      steps: the static draws of each step, k steps at most; read as far as to the first that
        is not taken.
      k: steps that are made room for.
      form: see `sum_of_grads`.
      network: whose draws they are.
    """
    if form in BY_HOST:
        each = tuple(steps)
        programs = (programs_of(draw, form, network) for draws in each for draw in draws)
        return Drawn(each, len(each), frozenset().union(*programs))
    rows = (given(draws, form, network.subnets) for draws in steps)
    _, alike = next(itertools.groupby(rows, _program))
    taken = list(alike)
    padded = taken + [taken[-1]] * (k - len(taken))
    stacked: Draws = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
    return Drawn(stacked, len(taken), frozenset({_program(taken[0])}))


def programs_of(draw: Draw, form: Form, network: Family) -> frozenset[Any]:
    """What has to be compiled for one draw where the host calls its programs.

    Of `staged`, which has a program for each segment and what reaches it, that is each segment
    with the two before, see `StagedFamily`.
    """
    if form == "host":
        return frozenset({_program(draw)})
    assert draw.subnet is not None
    names = _names(cast(Any, network), draw.subnet)
    return frozenset(names[max(i - 2, 0) : i + 1] for i in range(len(names)))


@lru_cache(maxsize=4096)  # points come again and again, and each is asked for before its step
def _names(network: Family, subnet: Subnet) -> tuple[str, ...]:
    return tuple(segment.name for segment in network.segments(subnet))


def _program(draws: Draws | Draw) -> Any:
    """What draws have to have in common to be given to one compiled program; hashable."""
    leaves, structure = jax.tree.flatten(draws)
    return structure, tuple(np.shape(leaf) for leaf in leaves)


class Portion(NamedTuple):
    """What one dispatch of k steps at most reads, see `make_chunk`.

    Attributes:
      ids: int32 (k, B), the images of each step, spread over the devices: each gathers its share
        of a batch, and a process hands its own devices no others.
      draws: see `Drawn`.
      n: how many steps it does; the rows from there on are padding.
      programs: see `Drawn`.
    """

    ids: jax.Array
    draws: Draws | tuple[Draws, ...]
    n: int
    programs: frozenset[Any]


class Feed:
    """The training set on the devices, and what each dispatch takes of it.

    Args:
      experiment: says what is drawn.
      data: N images.
      mesh: the devices.
      borders: steps before which a dispatch has to end, beside those of the experiment.
    """

    def __init__(
        self, experiment: Experiment, data: Dataset, mesh: Mesh, borders: Iterable[int] = ()
    ):
        self._experiment, self._mesh = experiment, mesh
        self._size, self._borders = len(data), tuple(borders)
        self.arrays = {
            "image": put(data.images, replicated(mesh)),
            "labels": put(data.labels, replicated(mesh)),
        }

    def portion(self, span: Span, step: int) -> Portion:
        """What the dispatch that begins at a step of a phase reads.

        It ends at the next boundary of any kind, or where `of_dispatch` ends it.
        """
        experiment = self._experiment
        k, network = experiment.steps_per_dispatch, experiment.network
        steps = (self._draw(span, s) for s in range(step, self._boundary(span, step)))
        form = experiment.form_in(span.phase, platform_of(self._mesh))
        draws, n, programs = of_dispatch(steps, k, form, network)
        ids = np.zeros((k, span.phase.batch_size), np.int32)
        for i in range(n):
            ids[i] = self._ids(span, step + i)
        return Portion(put(ids, sharded(self._mesh, axis=1)), draws, n, programs)

    def _boundary(self, span: Span, step: int) -> int:
        """The first step after `step` before which the dispatch has to end."""
        k, runtime = self._experiment.steps_per_dispatch, self._experiment.runtime
        grid = [k, runtime.log_every, runtime.save_every, runtime.validate_every or k]
        later = [(step // every + 1) * every for every in grid]
        later += [border for border in self._borders if border > step]
        return min(span.stop, *later)

    def _ids(self, span: Span, step: int) -> np.ndarray:
        seed, batch = self._experiment.seed, span.phase.batch_size
        return batch_ids(seed, span.index, step - span.start, self._size, batch)

    def _draw(self, span: Span, step: int) -> tuple[Draw, ...]:
        generator = rng.host(self._experiment.seed, rng.Stream.DRAWS, step)
        return self._experiment.network.draws(generator, span.when(step))
