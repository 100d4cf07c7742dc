"""What feeds a dispatch: where it ends, and the images and draws of its steps.

All of it is a function of (seed, step), so a restarted run is fed what the first one would have
been.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.family import Draw
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import put, replicated, sharded
from jax_elastic.training.phases import Span
from jax_elastic.training.step import Draws
from jax_elastic.training.sum_of_grads import stack_draws


class Portion(NamedTuple):
    """What one dispatch of k steps at most reads, see `make_chunk`.

    Attributes:
      ids: int32 (k, B), the images of each step, spread over the devices: each gathers its share
        of a batch, and a process hands its own devices no others.
      draws: with leading axis k.
      n: how many steps it does; the rows from there on are padding.
    """

    ids: jax.Array
    draws: Draws
    n: int

    @property
    def structure(self) -> Any:
        """What the compiled program depends on: the static part of the draws; hashable."""
        return _structure(self.draws)


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

        It ends at the next boundary of any kind, or where the draws' structure changes.
        """
        k = self._experiment.steps_per_dispatch
        draws: list[Draws] = []
        for s in range(step, self._boundary(span, step)):
            draw = self._draw(span, s)
            if draws and _structure(draw) != _structure(draws[0]):
                break
            draws.append(draw)
        n = len(draws)
        padded = draws + [draws[-1]] * (k - n)
        stacked: Draws = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        ids = np.zeros((k, span.phase.batch_size), np.int32)
        for i in range(n):
            ids[i] = self._ids(span, step + i)
        return Portion(put(ids, sharded(self._mesh, axis=1)), stacked, n)

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

    def _draw(self, span: Span, step: int) -> Draws:
        experiment = self._experiment
        generator = rng.host(experiment.seed, rng.Stream.DRAWS, step)
        draws: tuple[Draw, ...] = experiment.network.draws(generator, span.when(step))
        if experiment.form == "sliced":
            return draws
        return stack_draws(draws, experiment.network.subnets)


def _structure(draws: Draws) -> Any:
    return jax.tree.structure(draws)
