"""I-ResNeXt on CIFAR-10 at the paper's settings, with its baselines and ablations.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018).
Command: python train.py --config=configs/iresnext_cifar10.py:29 --workdir=runs/iresnext29
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, 29 layers): error 12.9 % at the thinnest sub-network and 7.2 % at the whole; with
shared BN above 70 % and, as its text implies, 9.0 %; the shallowest exit alone 19.9 % and, implied,
25.0 % trained jointly; the thinnest network alone, implied, 11.7 %. Of 65 layers only a plot is
printed: at equal accuracy they save 56.0 % of MSDNet's cost. Not reproduced here yet.

Variants: layers `29` (default) or `65`, and one of
  `own_bn` (default): I-ResNeXt, each of the 8 sub-networks with BN layers of its own;
  `shared_bn`: all with the same ones;
  `thin1` to `thin8`: the network of a sub-network's width, trained alone;
  `shallow_joint` (29 layers): exits after blocks 2 to 9 of the whole network, trained together;
  `shallow_separate2` to `shallow_separate9` (29 layers): so many blocks, trained alone.

5,000 training images are held out, as in the paper.
"""

from typing import Any

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.elastic.anytime.variants import pick, variants
from jax_elastic.training.words import choose

EXITS = tuple(range(2, 10))  # after these blocks of 9


def get_network(variant: str, classes: int) -> dict[str, Any]:
    """The network of a variant, for any number of classes."""
    words = tuple(_networks("29", classes))
    layers, kind = choose(variant, ("29", "65"), words)
    return pick(_networks(layers, classes), kind)


def _networks(layers: str, classes: int) -> dict[str, dict[str, Any]]:
    size = (int(layers) - 2) // 9
    resnext = {"stage_sizes": (size,) * 3, "width": 64, "branches": 8, "branch_width": 4}
    return variants({**resnext, "classes": classes}, 8, EXITS if layers == "29" else ())


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    return experiment(get_network(variant, 10), CIFAR10, ON_CIFAR)
