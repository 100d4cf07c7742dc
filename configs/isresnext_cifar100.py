"""IS-ResNeXt on CIFAR-100 at the paper's settings, with one label level or two.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018);
of the label levels section 4.3.
Command: python train.py --config=configs/isresnext_cifar100.py:hierarchical --workdir=runs/is_c100
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): plots; the error of the thinnest sub-network is 12.1 % of MSDNet's below it. Not
reproduced here yet.

Variants: `flat` (default) or `hierarchical`, whose exits also tell the 20 coarse classes. At which
level to answer is told, after training, by jax-elastic levels --workdir=runs/is_c100 --accuracy=0.8

The recipe is that of `isresnext_cifar10.py`.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR100
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (levels,) = choose(variant, ("flat", "hierarchical"))
    cifar10 = runpy.run_path(str(Path(__file__).with_name("isresnext_cifar10.py")))
    classes, taxonomy = ((100, 20), "cifar100") if levels == "hierarchical" else ((100,), "")
    network = {"family": "isresnext", "backbone": {**cifar10["ISRESNEXT"], "classes": classes}}
    return experiment(network, {**CIFAR100, "taxonomy": taxonomy}, ON_CIFAR)
