"""A dispatch of several steps: its memory, its program, and where its results lie."""

import dataclasses
import re

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from thorough import thorough

from jax_elastic import rng
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import SoftDrop
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.training.mesh import make_mesh, replicated, sharded
from jax_elastic.training.phases import Phase, make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import loss_in, make_chunk, make_step

SIZE, BATCH, K = 32, 16, 3
NETWORK = URNet(ResNet((1,), width=4), p=0.5)
(SPAN,) = spans((Phase("joint", 4.0, "gated", 0.1, batch_size=BATCH),), SIZE)


class Run:
    """The program of a phase on some devices, and what it reads."""

    def __init__(self, devices, step=None, network=NETWORK, ema_decay=0.0):
        self.network, self.averaged = network, ema_decay > 0
        mesh = make_mesh(jax.devices()[:devices])
        self.everywhere, self.split = replicated(mesh), sharded(mesh, axis=1)
        self.optimizer = make_optimizer(SPAN)
        step = step or make_step(network, SPAN.phase, self.optimizer, "sliced", ema_decay)
        self.chunk = make_chunk(step, DataConfig(), network.classes, mesh)
        generator = np.random.default_rng(0)
        images = generator.integers(256, size=(SIZE, 8, 8, 1), dtype=np.uint8)
        labels = generator.integers(10, size=(SIZE, 1), dtype=np.int32)
        arrays = {"image": images, "labels": labels}
        self.arrays = jax.device_put(arrays, self.everywhere)

    def fresh(self, seed=0):
        def init(seed):
            key = rng.device(seed, rng.Stream.INIT)
            params, stats = self.network.init(key, jnp.zeros((1, 8, 8, 1))).values()
            return TrainState(params, stats, self.optimizer.init(params), jnp.int32(0), seed)

        state = jax.jit(init, out_shardings=self.everywhere)(np.uint32(seed))
        average = jax.tree.map(jnp.copy, state.variables) if self.averaged else ()
        return state._replace(ema=average)

    def reads(self, k=K, first=0):
        """The ids and draws of a dispatch of k steps."""
        ids = np.arange(first, first + k * BATCH, dtype=np.int32).reshape(k, BATCH) % SIZE
        draws = [self.network.draws(np.random.default_rng(i), SPAN.when(i)) for i in range(k)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *draws)
        return jax.device_put(ids, self.split), stacked

    def __call__(self, state, n=K, first=0):
        return self.chunk(state, self.arrays, *self.reads(first=first), np.int32(n))

    def compiled(self, state, k=K, size=SIZE):
        """The program for k steps over a set of some images."""
        arrays = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype, sharding=a.sharding),
            self.arrays,
        )
        return self.chunk.lower(state, arrays, *self.reads(k), np.int32(k)).compile()


@pytest.fixture(scope="module")
def one():
    return Run(1)


@pytest.fixture(scope="module", params=[0.0, 0.9], ids=["plain", "averaged"])
def either(one, request):
    """Without a moving average and with one."""
    return Run(1, ema_decay=request.param) if request.param else one


def test_a_dispatch_takes_over_the_memory_of_the_state(either):
    old = either.fresh()
    new, _, _ = either(old)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.params, old.ema)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_the_compiled_program_writes_every_leaf_of_the_state_over_the_old_one(either):
    state = either.fresh()
    program = either.compiled(state)
    leaves = jax.tree.leaves(state)
    assert program.memory_analysis().alias_size_in_bytes == sum(leaf.nbytes for leaf in leaves)
    # Output number i lies where input number i lay.
    (header, *_) = program.as_text().splitlines()
    pairs = re.findall(r"{(\d+)}: \((\d+), {}, may-alias\)", header)
    assert pairs == [(str(i), str(i)) for i in range(len(leaves))]


def test_the_memory_of_a_dispatch_is_that_of_one_step_whatever_its_length_and_the_set(one):
    state = one.fresh()
    few, many, large = (
        one.compiled(state, k, size).memory_analysis().temp_size_in_bytes
        for k, size in ((K, SIZE), (4 * K, SIZE), (K, 100 * SIZE))
    )
    assert few == many == large
    # One block on 8x8 maps of 4 channels keeps some maps of the batch for its gradients.
    one_map = BATCH * 8 * 8 * 4 * 4
    assert few < 20 * one_map


def test_dispatches_of_every_length_and_seed_share_one_program():
    one = Run(1)
    state, losses, _ = one(one.fresh(seed=0))
    state, short, _ = one(state, n=1, first=5)
    other, others, _ = one(one.fresh(seed=1))
    assert one.chunk._cache_size() == 1
    # And they did what they were asked for.
    assert (int(state.step), int(other.step)) == (K + 1, K)
    assert np.count_nonzero(losses) == K
    assert np.count_nonzero(short) == 1
    assert (np.asarray(losses) != np.asarray(others)).all()


def per_image(state, batch, draws):
    """A step whose state is one number per image, which the compiler would leave spread out."""
    sums = batch["image"].sum((1, 2, 3))
    new = state._replace(stats=state.stats + sums, step=state.step + 1)
    return new, {"loss": (sums.mean(), jnp.ones(()))}


def one_number_per_image(run):
    return jax.device_put(run.fresh()._replace(stats=jnp.zeros(BATCH)), run.everywhere)


@pytest.mark.parametrize(
    "step,start", [(None, Run.fresh), (per_image, one_number_per_image)], ids=["urnet", "per_image"]
)
def test_everything_that_eight_devices_return_lies_on_all_of_them(step, start):
    eight = Run(8, step)
    state, losses, sums = eight(start(eight))
    leaves = jax.tree.leaves((state, losses, sums))
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert {len(leaf.devices()) for leaf in leaves} == {8}
    assert eight.chunk._cache_size() == 1


@pytest.mark.parametrize(
    "family", thorough([RandomDrop, SoftDrop], lambda family: family is RandomDrop)
)
def test_what_each_image_draws_does_not_depend_on_how_many_devices_share_the_batch(family):
    network = family(ResNet((4,), width=4))
    runs = Run(1, network=network), Run(8, network=network)
    one, eight = (run(run.fresh(), n=1)[2] for run in runs)
    # Shares of four blocks add up without rounding; and some blocks were dropped, but not all.
    np.testing.assert_array_equal(eight["usage"], one["usage"])
    assert 0 < float(one["usage"][0]) < BATCH
    # Devices add in another order: float32's rounding over a batch.
    for name in ("loss", "ce"):
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-5)


def test_label_smoothing_spreads_a_share_of_every_target_over_all_classes():
    seen = {}

    class Seen(Exception):
        pass

    class Watched(URNet):
        def loss(self, variables, batch, *rest):
            seen.update(batch)
            raise Seen  # no step is taken

    network = Watched(ResNet((1,), width=4), p=0.5)
    phase = dataclasses.replace(SPAN.phase, label_smoothing=0.2)
    batch = {
        "image": jnp.zeros((2, 8, 8, 1)),
        "targets": (jnp.eye(10)[:2], jnp.eye(4)[:2]),
        "mask": jnp.ones(2),
    }
    run = Run(1)
    draws = network.draws(np.random.default_rng(0), SPAN.when(0))
    with pytest.raises(Seen):
        make_step(network, phase, run.optimizer, "sliced")(run.fresh(), batch, draws)
    fine, coarse = seen["targets"]
    np.testing.assert_allclose(fine[0], [0.82, *[0.02] * 9], rtol=1e-6)
    np.testing.assert_allclose(coarse[1], [0.05, 0.85, 0.05, 0.05], rtol=1e-6)


def test_a_family_that_switches_by_itself_is_scanned_with_the_loss_that_does():
    itself, other = families.SMALL["resizable"], families.SMALL["iresnext"]
    assert loss_in(itself, "scan_switch") == (itself.switched_loss, "scan")
    assert loss_in(itself, "scan") == (itself.loss, "scan")
    assert loss_in(other, "scan_switch") == (other.loss, "scan_switch")
