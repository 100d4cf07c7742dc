"""Golden steps: the first step of a seed, pinned through the whole road from config to gradient.

Images, order, augmentation, draws, initial weights, forward and backward each take part. Variants
share most of that road with their families: of them draws, forward and backward are pinned.
"""

import jax
import numpy as np
import pytest
from thorough import thorough
from warm import random_batch, random_weights

from jax_elastic import rng
from jax_elastic.backbones.isresnext import ISResNeXt as ISArchitecture
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.family import When
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.registry import FAMILIES
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.external import External
from jax_elastic.elastic.urnet.fixed import URNetFixed
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import SoftDrop, URNetSoft
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase

SEED, BATCH = 11, 32
BACKBONE = ResNet((1, 1), width=4)

CHANGED = (
    "One training step gives other numbers than before. If that is not what you meant, it is a "
    "bug. If it is, the maths of the step or the meaning of a seed changed, and nobody's runs can "
    "be reproduced or resumed across it: say so in CHANGELOG.md and pin the new numbers here."
)

PLAIN = {"loss": 2.748192, "top1": 0.0625, "gradient": 0.9947202, "means": 0.1767053}
URNET = {
    "loss": 2.686205,
    "ce": 2.584481,
    "scale_loss": 0.05086170,
    "usage": 0.5,
    "budget": 0.4752844,
    "gradient": 0.7315787,
    "means": 0.1767053,
}


def norm(tree):
    """The norm of all numbers, by NumPy: eager operations are compiled for each shape."""
    return float(
        np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(jax.device_get(tree))))
    )


def first_step(network, objective, workdir):
    """The metric row of the first step, with the norms of its gradient and of its statistics."""
    phase = Phase("only", 1e-9, objective, 0.1, batch_size=BATCH, momentum=0.9)
    experiment = Experiment(network=network, phases=(phase,), data=DataConfig(), seed=SEED)
    state = train(experiment, workdir, devices=jax.devices()[:1], report=lambda line: None)
    (row,) = MetricsFile(workdir / "metrics.jsonl").rows()
    # After one step the trace of momentum is the gradient.
    gradient, _ = state.opt_state
    row["gradient"] = norm(gradient.trace)
    means = [leaf for path, leaf in jax.tree.leaves_with_path(state.stats) if "mean" in str(path)]
    row["means"] = norm(means)
    return row


@pytest.mark.parametrize(
    "network,objective,pinned",
    [
        # What it has, the other has too.
        pytest.param(Plain(BACKBONE), "base", PLAIN, id="plain", marks=pytest.mark.slow),
        pytest.param(URNet(BACKBONE, p=0.5), "gated", URNET, id="urnet"),
    ],
)
def test_the_first_step_of_a_seed_has_not_changed(network, objective, pinned, tmp_path):
    row = first_step(network, objective, tmp_path)
    found = {name: row[name] for name in pinned}
    # Float32 sums in another order, on another processor or version of XLA, differ by some 1e-6;
    # a gradient through batch normalisation by more. A changed draw or formula differs by 1e-2.
    np.testing.assert_allclose(
        list(found.values()), list(pinned.values()), rtol=1e-4, err_msg=f"{CHANGED}\nfound {row}"
    )


RESIZABLE = Resizable(ResNet((1, 2), width=4), (0.5, 1.0), side=8)
# With p = 0.5 the draw of which gates are soft takes part.
VARIANTS = {
    "urnet_fixed": (URNetFixed(BACKBONE, p=0.5), "annealed"),
    "urnet_soft": (URNetSoft(BACKBONE), "gated"),
    "soft_drop": (SoftDrop(BACKBONE), "gated"),
    "random_drop": (RandomDrop(BACKBONE), "gated"),
    "external": (External(BACKBONE, p=0.5, hidden=8), "gated"),
    "iresnext": (IResNeXt(ResNeXt((1, 1), 8, 2, 2), 2), "anytime"),
    "isresnext": (ISResNeXt(ISArchitecture((1, 1), 8, 2, 2, 2)), "anytime"),
    "exits": (Exits(ShallowResNeXt(ResNeXt((1, 1), 8, 2, 2), (1, 2))), "anytime"),
    "resizable": (RESIZABLE, "fair"),
    "adapt": (Adapt(RESIZABLE, width=4), "learner"),
    "sgad": (SGAD(BACKBONE), "finetuned"),  # here the noise is there from the first step
}
PINNED = {
    "urnet_fixed": {
        "loss": 2.444663,
        "budget": 0.7470053,
        "ce": 2.366535,
        "scale_loss": 0.03906407,
        "top1": 0.15625,
        "usage": 1,
        "gradient": 0.4524176,
        "means": 2.695428,
    },
    "urnet_soft": {
        "loss": 2.377068,
        "budget": 0.4752845,
        "ce": 2.366564,
        "scale_loss": 0.005251697,
        "top1": 0.15625,
        "usage": 1,
        "gradient": 0.4254701,
        "means": 2.69338,
    },
    "soft_drop": {
        "loss": 2.338317,
        "budget": 0.4752845,
        "ce": 2.338317,
        "scale_loss": 0.1001931,
        "top1": 0.125,
        "usage": 0.390625,
        "gradient": 0.3039339,
        "means": 2.522791,
    },
    "random_drop": {
        "loss": 2.357462,
        "budget": 0.4752845,
        "ce": 2.357462,
        "scale_loss": 0.1123918,
        "top1": 0.125,
        "usage": 0.390625,
        "gradient": 0.4545319,
        "means": 2.647358,
    },
    "external": {
        "loss": 2.392546,
        "budget": 0.4752845,
        "ce": 2.390895,
        "scale_loss": 0.0008255183,
        "top1": 0.15625,
        "usage": 0.5,
        "gradient": 0.4676397,
        "means": 5.162153,
    },
    "iresnext": {
        "loss": 4.726648,
        "ce": 2.363324,
        "top1": 0.171875,
        "gradient": 0.8711923,
        "means": 5.688697,
    },
    "isresnext": {
        "loss": 5.003029,
        "ce": 2.501514,
        "top1": 0.078125,
        "gradient": 0.9877428,
        "means": 3.883499,
    },
    "exits": {
        "loss": 4.961333,
        "ce": 2.480667,
        "top1": 0.109375,
        "gradient": 0.8796514,
        "means": 5.102331,
    },
    "resizable": {
        "loss": 5.63459,
        "ce": 2.817295,
        "top1": 0.140625,
        "gradient": 3.033482,
        "means": 4.783199,
    },
    "sgad": {
        "loss": 3.846295,
        "ce": 2.580951,
        "dropped": 0.34375,
        "expected": 0.04815317,
        "loss_b": 0.3631157,
        "loss_s": 3.007426,
        "sigma": 2,
        "top1": 0.0625,
        "gradient": 1.074743,
        "means": 5.35035,
    },
    "adapt": {
        "loss": 0.6890684,
        "agreement": 0.5625,
        "ce": 0.6890684,
        "gradient": 0.4648708,
        "means": 3.515377,
    },
}


def first_gradient(network, objective):
    """Metrics and the norms of gradient and BN means of a step on noise, without the loop.

    Of several draws all is added.
    """
    when = When(0, 0.0, "only", 0, 2.0, 1, objective)
    draws = network.draws(rng.host(SEED, rng.Stream.DRAWS, 0), when)
    variables = random_weights(network, SEED)

    @jax.jit
    def step(variables, batch, draws, key):
        def loss(params):
            both = {**variables, "params": params}
            parts = [network.loss(both, batch, draw, key, objective, "batch") for draw in draws]
            return jax.tree.map(lambda *leaves: sum(leaves), *parts)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    batch, key = random_batch(BATCH, classes=network.targets), rng.device(SEED, rng.Stream.LOSS, 0)
    (value, aux), gradient = step(variables, batch, draws, key)
    means = [leaf for path, leaf in jax.tree.leaves_with_path(aux.moments) if "mean" in str(path)]
    return {
        "loss": float(value),
        **{name: float(total / count) for name, (total, count) in aux.sums.items()},
        "gradient": norm(gradient),
        "means": norm(means),
    }


# Of the others: gates are pinned by the step above, increments and a sum over draws by one of the
# two, resizing by what `adapt` stands on, and a plan by that of the stem's output.
FAST = ("isresnext", "resizable", "sgad")


@pytest.mark.parametrize("name", thorough(VARIANTS, FAST.__contains__))
def test_the_first_gradient_of_a_variant_has_not_changed(name):
    found, pinned = first_gradient(*VARIANTS[name]), PINNED[name]
    values = {key: found[key] for key in pinned}
    # As above.
    np.testing.assert_allclose(
        list(values.values()), list(pinned.values()), rtol=1e-4, err_msg=f"{CHANGED}\nfound {found}"
    )


def test_a_golden_step_is_pinned_for_every_family():
    assert {"plain", "urnet", *VARIANTS} == set(FAMILIES)
    assert VARIANTS.keys() == PINNED.keys() and all(PINNED.values())
