"""IS-ResNeXt on ImageNet at the paper's settings: five answers from one pass.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/isresnext_imagenet.py --workdir=runs/isresnext_imagenet
Hardware: accelerators. Hours: not measured yet.
Expected (paper): a plot; at equal accuracy it saves 43.3 % of MSDNet's cost. Not reproduced here
yet.

There are no variants. Some 50,000 training images are held out, as in the paper.

Images are read into memory as arrays, which a set of this size does not fit: the network builds,
counts and steps, but training it on the whole set waits for input that is streamed.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import IMAGENET
from jax_elastic.elastic.anytime.recipe import ON_IMAGENET, experiment
from jax_elastic.training.words import choose

ISRESNEXT = {
    "stage_sizes": (5, 5, 5, 5),
    "width": 160,
    "branches": 30,
    "branch_width": 4,
    "subfeatures": 5,
    "classes": (1000,),
    "stem": "imagenet",
}


def get_config(variant: str = "") -> ConfigDict:
    """The config."""
    choose(variant)
    return experiment({"family": "isresnext", "backbone": ISRESNEXT}, IMAGENET, ON_IMAGENET)
