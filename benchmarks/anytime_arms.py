"""The networks of the anytime experiments in small, as configs: `benchmarks/anytime_arms.py:NAME`.

All are trained alike, on digits_hard. The widest is a ResNeXt of two blocks a stage, and K = 3: in
such a network every block costs the same, so sub-network k, which has k of the 3 parts of all 6
blocks, costs what the first 2 k blocks do, up to the classifier.
"""

import dataclasses

from ml_collections import ConfigDict

from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.family import Family
from jax_elastic.elastic.plain import Plain
from jax_elastic.training.experiment import Experiment, Runtime, to_config
from jax_elastic.training.phases import Phase
from jax_elastic.training.words import choose

DATA = DataConfig("digits_hard", (12, 12, 1), pad=1, mean=(0.204,), std=(0.287,))
WIDE = IResNeXt(ResNeXt((2, 2, 2), width=24, branches=6, branch_width=2), subnetworks=3)
# Of three widths that the K sub-features can share, that whose cost is nearest to WIDE's.
TRIANGULAR = ISResNeXt(
    Architecture((2, 2, 2), width=24, branches=9, branch_width=2, subfeatures=WIDE.subnetworks)
)

NESTED = range(1, WIDE.subnetworks)
"""Sub-networks that are less than the whole."""


def shallow(k: int) -> Plain:
    """The first blocks of the widest network, as many as cost what its sub-network k does."""
    stages = WIDE.backbone.stage_sizes[:k]
    return Plain(dataclasses.replace(WIDE.backbone, stage_sizes=stages))


NETWORKS: dict[str, Family] = {
    "i": WIDE,
    "shared_bn": dataclasses.replace(WIDE, shared_bn=True),
    "is": TRIANGULAR,
    **{f"thin{k}": WIDE.thin(k) for k in NESTED},
    **{f"shallow{k}": shallow(k) for k in NESTED},
}
"""Name -> network."""


def get_config(variant: str) -> ConfigDict:
    """The training of a network."""
    (name,) = choose(variant, tuple(NETWORKS))
    network = NETWORKS[name]
    (objective,) = network.objectives
    phase = Phase(
        name="base",
        epochs=100.0,
        objective=objective,
        learning_rate=0.1,
        batch_size=32,  # 270 images: so that these are 844 steps
        nesterov=True,
        weight_decay=1e-4,
        schedule="cosine",
        validate=False,
    )
    experiment = Experiment(
        network=network, phases=(phase,), data=DATA, runtime=Runtime(log_every=200)
    )
    return ConfigDict(to_config(experiment))
