"""URNet on CIFAR-100 at the paper's settings, with its baselines and ablations.

Paper: URNet (AAAI 2020), table 1; what it leaves open: docs/choices.md.
Command: python train.py --config=configs/urnet_cifar100.py:110 --workdir=runs/urnet_cifar100_110
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, ResNet-110, S = .2 .4 .6 .8 1): accuracy 70.7 71.5 72.4 73.0 72.8 % with 28.10
28.57 32.00 44.61 49.41 of 54 blocks; the base network 72.3 %. Not reproduced here yet.

Recipe and variants are those of `urnet_cifar10.py`.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR100


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    cifar10 = runpy.run_path(str(Path(__file__).with_name("urnet_cifar10.py")))
    config: ConfigDict = cifar10["get_config"](variant)
    config.data = {**CIFAR100, "validation": config.data.validation}
    config.network.backbone.classes = 100
    return config
