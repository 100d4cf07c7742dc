"""IS-ResNeXt on CIFAR-10 at the paper's settings: six answers from one pass.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/isresnext_cifar10.py --workdir=runs/isresnext
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): a plot; the error of the thinnest sub-network is 17.2 % of MSDNet's below it. Not
reproduced here yet.

There are no variants. 5,000 training images are held out, as in the paper.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.training.words import choose

ISRESNEXT = {
    "stage_sizes": (5, 5, 5),
    "width": 96,
    "branches": 18,
    "branch_width": 4,
    "subfeatures": 6,
    "classes": (10,),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config."""
    choose(variant)
    return experiment({"family": "isresnext", "backbone": ISRESNEXT}, CIFAR10, ON_CIFAR)
