"""Plain ResNeXts on CIFAR-10: nothing elastic, for comparison with I- and IS-ResNeXt.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/resnext_cifar10.py:29 --workdir=runs/resnext29
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): a plot without numbers. Not reproduced here yet.

Variants: layers `29` (default) or `65`: I-ResNeXt's at its whole width, 50.1 and 114.6 M MACs.

5,000 training images are held out, as in the paper.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.elastic.anytime.variants import plain
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (layers,) = choose(variant, ("29", "65"))
    size = (int(layers) - 2) // 9
    resnext = {"stage_sizes": (size,) * 3, "width": 64, "branches": 8, "branch_width": 4}
    return experiment(plain({**resnext, "classes": 10}), CIFAR10, ON_CIFAR)
