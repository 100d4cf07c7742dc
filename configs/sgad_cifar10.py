"""SGAD on CIFAR-10 at the paper's settings, with its ablations.

Paper: SGAD (2018), table 1; what it leaves open: docs/choices.md.
Command: python train.py --config=configs/sgad_cifar10.py:32 --workdir=runs/sgad_cifar10_32
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, accuracy at MACs as a share of the plain network's): ResNet-32 93.11 % at .86 (mf)
and 92.18 % at .47 (lf), plain 93.02 %; ResNet-110 94.20 % at .86 and 93.70 % at .23, plain 94.57 %.
Not reproduced here yet.

Variants: depth `32` (default) or `110`; one of
  `mf` (default): drops a little, trained from scratch;
  `lf`: drops more, finetuned from a run of `mf`, --config.init_from=WORKDIR;
  `plain`: the network without gates, by the recipe of `mf`;
and one of
  `concave` (default), `convex`, `linear`: how certainty becomes the share of blocks to drop;
  `constant`: the same share for every image; `no_sgnet`: none; `no_noise`: gates without noise.

All training images are used and the last checkpoint is reported, so nothing is chosen; pass
--config.data.validation=0.1 to hold some out. p_max is a guess that may lead to the paper's costs;
--config.network.wanted=0.86 lets it move during training until such a share of the blocks runs,
which the metrics tell as `ran`. That is not the share of MACs above: the first blocks of the second
and third stage cost a quarter less, so that without BMNet's the MACs are at most .03 more or .02
less of the plain network's at depth 32, .01 at 110 (docs/choices.md S9).
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.sgad.recipe import ABLATIONS, USES, on_cifar
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, use, ablation = choose(variant, ("32", "110"), USES, tuple(ABLATIONS))
    return on_cifar(depth, use, ablation, 10, CIFAR10)
