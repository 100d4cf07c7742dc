"""The two sorts of checkpoints of a run, and that a kill between them loses nothing."""

import asyncio

import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.training.checkpoint import Checkpoints
from jax_elastic.training.log import NonFiniteLossError
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.phases import Phase, spans
from jax_elastic.training.saves import Progress, Saves
from jax_elastic.training.seal import SealedPath
from jax_elastic.training.state import TrainState
from jax_elastic.training.validation import Best

SPANS = spans((Phase("only", 1, "base", 0.1, batch_size=16),), 160)
PROGRESS = Progress(step=4, phase=0, seconds=1.5, best=Best(0.5, 4))


def state():
    params, stats = {"dense": {"kernel": jnp.ones((2, 2))}}, {"bn": {"mean": jnp.zeros(2)}}
    return TrainState(params, stats, (jnp.ones(2),), jnp.int32(4), jnp.uint32(0))


def saves(workdir):
    return Saves(workdir, keep=2, mesh=make_mesh(), spans=SPANS, facts={"class_names": ("a", "b")})


class Slow(SealedPath):
    """Takes its time to complete what lies in `best`."""

    async def finalize(self):
        await asyncio.sleep(0.3 * (self.get_final().parent.name == "best"))
        await super().finalize()


def test_the_best_lies_on_disk_before_a_newest_one_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr("jax_elastic.training.checkpoint.SealedPath", Slow)
    there, save = [], Checkpoints.save

    def watched(self, *arguments):
        there.append((tmp_path / "best" / "4").is_dir())
        save(self, *arguments)

    monkeypatch.setattr(Checkpoints, "save", watched)
    with saves(tmp_path) as open_saves:
        open_saves.save_best(state(), PROGRESS)
        open_saves.save(state(), PROGRESS)
    assert there == [False, True]


@pytest.mark.parametrize("kind", ["save", "save_best"])
@pytest.mark.parametrize("field", ["params", "stats", "opt_state", "ema"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_saved(tmp_path, kind, field, value):
    bad = state()._replace(**{field: {"kernel": jnp.array([1, value])}})
    with (
        saves(tmp_path) as open_saves,
        pytest.raises(NonFiniteLossError, match="the state is not finite after step 4"),
    ):
        getattr(open_saves, kind)(bad, PROGRESS)
    assert not [path for path in tmp_path.glob("*/*") if path.name.isdecimal()]
