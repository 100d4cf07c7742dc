"""MSDNet on CIFAR-100 as the anytime paper trains it: the opponent of I- and IS-ResNeXt.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/msdnet_cifar100.py --workdir=runs/msdnet_c100
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): a plot; `iresnext_cifar100.py:65` is to be as accurate at 51.3 % of its cost. Not
reproduced here yet.

The network and the recipe are those of `msdnet_cifar10.py`; there are no variants.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR100
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config."""
    choose(variant)
    cifar10 = runpy.run_path(str(Path(__file__).with_name("msdnet_cifar10.py")))
    network = {"family": "exits", "backbone": {**cifar10["MSDNET"], "classes": (100,)}}
    return experiment(network, CIFAR100, ON_CIFAR)
