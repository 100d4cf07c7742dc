"""SGAD on CIFAR-100 at the paper's settings, with its ablations.

Paper: SGAD (2018), table 1; what it leaves open: docs/choices.md.
Command: python train.py --config=configs/sgad_cifar100.py:32 --workdir=runs/sgad_cifar100_32
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, accuracy at MACs as a share of the plain network's): ResNet-32 70.85 % at .77 (mf)
and 70.09 % at .71 (lf), plain 70.38 %; ResNet-110 73.94 % at .94 and 73.94 % at .75, plain 73.94 %.
Not reproduced here yet.

Recipe and variants are those of `sgad_cifar10.py`.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR100
from jax_elastic.elastic.sgad.recipe import ABLATIONS, USES, on_cifar
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, use, ablation = choose(variant, ("32", "110"), USES, tuple(ABLATIONS))
    return on_cifar(depth, use, ablation, 100, CIFAR100)
