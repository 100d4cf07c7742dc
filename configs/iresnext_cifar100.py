"""I-ResNeXt on CIFAR-100 at the paper's settings, with its baselines and ablations.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/iresnext_cifar100.py:65 --workdir=runs/iresnext65_c100
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, 65 layers): a plot; at equal accuracy it saves 48.7 % of MSDNet's cost. NestedNet,
ten times as large, is cited with an error of 24.5 %. Not reproduced here yet.

Recipe and variants are those of `iresnext_cifar10.py`.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR100
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    cifar10 = runpy.run_path(str(Path(__file__).with_name("iresnext_cifar10.py")))
    return experiment(cifar10["get_network"](variant, 100), CIFAR100, ON_CIFAR)
