"""Magnitudes of gradients: what is averaged, that every form tells the same, and no bit changes."""

import dataclasses

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from thorough import thorough
from toy import Toy

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.family import Aux
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import complete_moments
from jax_elastic.training import loop
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.magnitudes import GRADIENT, magnitudes
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase, make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_update
from jax_elastic.training.trainable import partition

PLAIN = Plain(warm.BACKBONE)
CONVOLUTIONAL = {name: net for name, net in families.ALL.items() if name != "toy"}


def of(network, gradient, pattern=".*"):
    """The magnitudes of a gradient of what a pattern finds, as numbers."""
    trained, frozen = partition(gradient["params"], pattern)
    found = magnitudes(network, gradient["stats"], trained, frozen)
    return {name: float(value) for name, value in found.items()}


def mean(*kernels):
    return np.abs(np.concatenate([np.ravel(kernel) for kernel in kernels])).mean()


def test_a_magnitude_is_the_mean_over_all_weights_of_the_convolutions_of_a_segment():
    gradient = jax.device_get(warm.random_weights(PLAIN))
    found, params = of(PLAIN, gradient), gradient["params"]
    stack, first = params["stage1"]["blocks"], params["stage2"]["first"]
    expected = {
        "gradient/stem": mean(params["stem"]["conv"]["kernel"]),
        "gradient/block2": mean(stack["conv1"]["kernel"][1], stack["conv2"]["kernel"][1]),
        "gradient/block3": mean(first["conv1"]["kernel"], first["conv2"]["kernel"]),
    }
    # Float32 sums in another order.
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    # The head has a dense layer alone.
    assert list(found) == [
        GRADIENT + name for name in ("stem", *(f"block{n}" for n in range(1, 6)))
    ]


def test_what_a_phase_does_not_train_is_not_told_of():
    gradient = jax.device_get(warm.random_weights(PLAIN))
    whole = of(PLAIN, gradient)
    assert of(PLAIN, gradient, "^stage2") == {n: whole[n] for n in list(whole)[3:5]}
    assert of(PLAIN, gradient, "^head") == {}


def test_of_a_segment_that_is_trained_in_part_that_part_counts():
    gradient = jax.device_get(warm.random_weights(PLAIN))
    kernel = gradient["params"]["stage2"]["first"]["conv1"]["kernel"]
    found = of(PLAIN, gradient, "^stage2/first/conv1")
    assert found == pytest.approx({"gradient/block3": mean(kernel)}, rel=1e-5)


@pytest.mark.parametrize("name", thorough(CONVOLUTIONAL, ("sgad", "isresnext").__contains__))
def test_every_network_with_convolutions_tells_a_number_for_each_segment_that_has_some(name):
    network = CONVOLUTIONAL[name]
    shapes = warm.shapes_of(network)
    found = jax.eval_shape(lambda own: magnitudes(network, own["stats"], own["params"], {}), shapes)
    segments = {segment.name for segment in network.segments(network.subnets.fullest)}
    assert found and {name.removeprefix(GRADIENT) for name in found} <= segments
    assert {(leaf.shape, str(leaf.dtype)) for leaf in found.values()} == {((), "float32")}


def test_a_network_without_convolutions_is_refused():
    shapes = warm.shapes_of(Toy())
    with pytest.raises(UsageError, match="this network has none; leave"):
        jax.eval_shape(lambda own: magnitudes(Toy(), own["stats"], own["params"], {}), shapes)


BATCH, DECAY = 16, 0.1
RESIZABLE = Resizable(ResNet((1,), width=2, classes=10), (0.5, 1.0), side=8)


def experiment(network, objective, form, steps, measured, **fields):
    """Everything that the update does: weight decay, a moving average, and what is asked for."""
    epochs = steps * BATCH / len(load(DataConfig(), "train"))
    phase = Phase("only", epochs, objective, 0.1, batch_size=BATCH, weight_decay=DECAY)
    return Experiment(
        network=network,
        phases=(dataclasses.replace(phase, **fields),),
        data=DataConfig(),
        form=form,
        ema_decay=0.9,
        runtime=Runtime(log_every=2, gradients=measured),
    )


def test_a_gradient_is_measured_as_the_optimizer_gets_it_before_weight_decay():
    (span,) = spans(experiment(PLAIN, "base", "sliced", 1, True).phases, BATCH)
    update = make_update(PLAIN, span.phase, make_optimizer(span), 0.0, 0, measured=True)
    variables = jax.device_get(warm.random_weights(PLAIN))
    params, stats = variables["params"], variables["stats"]

    @jax.jit
    def step(params, gradient):
        moments = complete_moments(stats, None)
        state = TrainState(params, stats, make_optimizer(span).init(params), 0, np.uint32(0))
        return update(state, ((jnp.float32(1), Aux(moments, {})), gradient))

    new, told = step(params, jax.tree.map(np.zeros_like, params))
    assert (
        new.params["stem"]["conv"]["kernel"].tolist() != params["stem"]["conv"]["kernel"].tolist()
    )
    assert [float(told[f"gradient/block{n}"][0]) for n in range(1, 6)] == [0] * 5
    _, told = step(params, params)
    found = {name: float(value) for name, (value, _) in told.items() if name != "loss"}
    assert found == pytest.approx(of(PLAIN, variables), rel=1e-5)
    assert {float(count) for _, count in told.values()} == {1}


def run(workdir, asked):
    """The final state, on the host, and the rows."""
    state = loop.train(asked, workdir, None, jax.devices()[:1], lambda line: None)
    return jax.device_get(state), MetricsFile(workdir / "metrics.jsonl").rows()


@pytest.mark.parametrize(
    "network,objective,form,fields",
    [
        pytest.param(Plain(ResNet((1,), width=2)), "base", "sliced", {"accumulate": 2}, id="parts"),
        pytest.param(RESIZABLE, "independent", "host", {}, id="host", marks=pytest.mark.slow),
        pytest.param(RESIZABLE, "independent", "staged", {}, id="staged", marks=pytest.mark.slow),
    ],
)
def test_measuring_gradients_changes_no_bit_of_training(tmp_path, network, objective, form, fields):
    (on, rows), (off, bare) = (
        run(tmp_path / str(measured), experiment(network, objective, form, 3, measured, **fields))
        for measured in (True, False)
    )
    assert tree_hash(on) == tree_hash(off)
    told = [{name for name in row if name.startswith(GRADIENT)} for row in rows]
    assert [row["steps"] for row in rows] == [2, 1] and told[0] == told[1] != set()
    without = [row.keys() - names for row, names in zip(rows, told, strict=True)]
    assert without == [row.keys() for row in bare]
    assert all(row[name] > 0 for row, names in zip(rows, told, strict=True) for name in names)
