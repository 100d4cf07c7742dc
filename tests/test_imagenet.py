"""Configs of large images at their real widths: what they count, and a step of each phase."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.cli.flags import read_config
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL
from jax_elastic.training.phases import make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_step
from jax_elastic.training.sum_of_grads import given
from jax_elastic.training.trainable import partition

CONFIG = "configs/urnet_imagenet.py"


def read(variant, *changes):
    experiment, _ = read_config([f"--config={CONFIG}:{variant}", *changes], "")
    return experiment


# docs/choices.md B4, B5: 4.089 G and 7.80 G; each block more of the third stage costs 218.4 M.
@pytest.mark.parametrize(
    "variant,macs,blocks",
    [
        ("resnet50", 4.089e9, 16),
        ("resnet72", 4.089e9 + 8 * 218.4e6, 24),
        ("resnet75", 4.089e9 + 9 * 218.4e6, 25),
        ("resnet84", 4.089e9 + 12 * 218.4e6, 28),
        ("resnet101", 7.801e9, 33),
    ],
)
def test_the_static_networks_have_the_papers_blocks_and_cost(variant, macs, blocks):
    experiment = read(f"{variant},base")

    cost = CostModel(experiment.network, experiment.data.image_shape).cost(FULL)

    assert experiment.network.backbone.num_blocks == blocks
    assert cost.fixed == pytest.approx(macs, rel=2e-4)


def test_the_gates_of_urnet_on_imagenet_cost_less_than_a_thousandth():
    experiment = read("resnet101")

    cost = CostModel(experiment.network, experiment.data.image_shape).cost(FULL)

    assert len(cost.blocks) == 33
    assert 0 < cost.gates < 1e-3 * cost.full


def test_every_phase_says_its_bn_mode_and_its_schedule():
    phases = {phase.name: phase for phase in read("resnet101").phases}

    assert {name: (p.bn, p.schedule, p.epochs) for name, p in phases.items()} == {
        "base": ("batch", "step", 90),
        "gates": ("running", "cosine", 5),
        "joint": ("batch", "cosine", 15),
    }


def take_steps(experiment, side):
    """One step of each phase on four random images, of which the loss and the moves are checked."""
    network = experiment.network
    # The widths are the real ones; the images are small and few, because the time is the CPU's.
    images = np.random.default_rng(0).normal(size=(4, side, side, 3)).astype(np.float32)
    batch = {
        "image": jnp.asarray(images),
        "targets": tuple(jax.nn.one_hot(np.arange(4), classes) for classes in network.classes),
        "mask": jnp.ones(4),
    }
    fresh = jax.jit(network.init)(jax.random.key(0), batch["image"])
    state = TrainState(fresh["params"], fresh["stats"], (), jnp.int32(0), jnp.uint32(0))

    for span in spans(experiment.phases, 1024):
        optimizer = make_optimizer(span)
        trainable, _ = partition(state.params, span.phase.trainable)
        state = state._replace(opt_state=optimizer.init(trainable))
        form = experiment.form_in(span.phase, "cpu")
        step = make_step(network, span.phase, optimizer, form)
        draws = network.draws(np.random.default_rng(0), span.when(span.start))
        after, sums = jax.jit(step)(state, batch, given(draws, form, network.subnets))

        assert np.isfinite(sums["loss"][0])
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
        expected, still = partition(moved, span.phase.trainable)
        assert any(jax.tree.leaves(expected))
        assert not any(jax.tree.leaves(still))
        state = after


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["urnet", "fixed0.5", "ba_rand"])
def test_each_phase_takes_a_step_on_fake_images(variant):
    # One step of four images: statistics of it alone, and a rate that survives it.
    changes = ("--config.network.bn_momentum=0.0", "--config.phases.base.learning_rate=0.001")
    take_steps(read(f"resnet50,{variant}", *changes), side=64)


# Fewer blocks and layers than in the paper, because compiling them is what takes the time.
@pytest.mark.slow
@pytest.mark.parametrize(
    "config,changes",
    [
        ("isresnext_imagenet.py", ["stage_sizes=(1,2,1,1)"]),
        ("isresnext_cub.py:hierarchical", ["stage_sizes=(1,2,1,1)"]),
        ("msdnet_imagenet.py", ["base=1", "step=1"]),
    ],
)
def test_the_anytime_networks_of_large_images_take_a_step_on_fake_ones(config, changes):
    flags = [f"--config.network.backbone.{change}" for change in changes]
    experiment, _ = read_config([f"--config=configs/{config}", *flags], "")

    take_steps(experiment, side=32)


# docs/choices.md B4, N3 to N6.
@pytest.mark.parametrize(
    "name,macs",
    [
        ("resnet50", 4_089_184_256),
        ("mobilenet_v1", 568_740_352),
        ("mobilenet_v2", 300_774_272),
        ("shufflenet_v2", 298_970_656),
        ("resizablenet", 360_050_704),
    ],
)
def test_a_resizable_network_at_its_fullest_costs_what_its_backbone_does(name, macs):
    experiment, _ = read_config([f"--config=configs/resizable_imagenet.py:{name}"], "")

    network = experiment.network
    cost = CostModel(network, experiment.data.image_shape).cost(network.subnets.fullest)

    assert cost.full == macs


# Two scales and fewer blocks than in the paper, because compiling them is what takes the time.
@pytest.mark.slow
@pytest.mark.parametrize(
    "variant,changes",
    [
        ("resnet50,shared_bn", ["backbone.stage_sizes=(1,2,1,1)"]),
        ("mobilenet_v1,input_only", ["backbone.stage_sizes=(1,2,2,2,2)"]),
        ("mobilenet_v2,plain", []),
        ("shufflenet_v2,individual", ["backbone.stage_sizes=(1,2,1)"]),
        ("resizablenet,plain", ["backbone.units=('33','5','7','X')"]),
    ],
)
def test_the_resizable_networks_of_large_images_take_a_step_on_fake_ones(variant, changes):
    flags = [f"--config.network.{change}" for change in ("scales=0.5,1.0", "side=64", *changes)]
    experiment, _ = read_config([f"--config=configs/resizable_imagenet.py:{variant}", *flags], "")

    take_steps(experiment, side=64)
