"""MSDNet on CIFAR-10 as the anytime paper trains it: the opponent of I- and IS-ResNeXt.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018); the network is
that of Huang et al. 2018 (docs/choices.md M1, M2) with one linear layer per exit (M3).
Command: python train.py --config=configs/msdnet_cifar10.py --workdir=runs/msdnet
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): a plot; `iresnext_cifar10.py:65` is to be as accurate at 44.0 % of its cost. Not
reproduced here yet.

There are no variants. 5,000 training images are held out, as in the paper.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.training.words import choose

MSDNET = {
    "exits": 10,
    "base": 4,
    "step": 2,
    "stepmode": "even",
    "channels": 16,
    "growth": 6,
    "growth_factors": (1, 2, 4),
    "bottleneck_factors": (1, 2, 4),
    "classes": (10,),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config."""
    choose(variant)
    return experiment({"family": "exits", "backbone": MSDNET}, CIFAR10, ON_CIFAR)
