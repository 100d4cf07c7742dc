"""MSDNet on ImageNet as the anytime paper trains it: the opponent of IS-ResNeXt.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018); the network is
that of Huang et al. 2018 (docs/choices.md M1, M2) with one linear layer per exit (M3).
Command: python train.py --config=configs/msdnet_imagenet.py --workdir=runs/msdnet_imagenet
Hardware: accelerators. Hours: not measured yet.
Expected (paper): a plot; `isresnext_imagenet.py` is to be as accurate at 56.7 % of its cost. Not
reproduced here yet.

There are no variants. Some 50,000 training images are held out, as in the paper. What is said of
input in `isresnext_imagenet.py` holds here, too: the network builds, counts and steps.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import IMAGENET
from jax_elastic.elastic.anytime.recipe import ON_IMAGENET, experiment
from jax_elastic.training.words import choose

MSDNET = {
    "exits": 5,
    "base": 7,
    "step": 7,
    "stepmode": "even",
    "channels": 32,
    "growth": 16,
    "growth_factors": (1, 2, 4, 4),
    "bottleneck_factors": (1, 2, 4, 4),
    "classes": (1000,),
    "stem": "imagenet",
}


def get_config(variant: str = "") -> ConfigDict:
    """The config."""
    choose(variant)
    return experiment({"family": "exits", "backbone": MSDNET}, IMAGENET, ON_IMAGENET)
