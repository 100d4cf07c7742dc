"""SGAD on handwritten digits: the blocks of an image are chosen before the first of them runs.

Paper: SGAD (2018), in small; its settings are those of `sgad_cifar10.py`.
Command: python train.py --config=configs/sgad_digits.py --workdir=runs/sgad
Hardware: 2 CPU cores. Time: 2 to 3 minutes, 1 for `hard`.
Expected, on test (seed 0): top-1 98.9 % with 10.9 of the 14 blocks that can be dropped (std over
images .4), .86 M MACs, .80 of the plain network's; `hard` 91.8 % with 11.0 blocks (std .7), .84 of
the MACs; `hard,lf` from there 91.6 % with 9.1 blocks (std 1.3), .71. `hard,plain` has 89.4 %.
Seeds differ by points (docs/sgad.md).

Variants: `digits` (default) or `hard`, which trains on digits_hard, 300 images amid clutter and
noise; one of
  `mf` (default): drops a little, trained from scratch;
  `lf`: drops more, finetuned from a run of `mf`, --config.init_from=WORKDIR;
  `plain`: the network without gates, by the recipe of `mf`;
and one of
  `concave` (default), `convex`, `linear`: how certainty becomes the share of blocks to drop;
  `constant`: the same share for every image; `no_sgnet`: none; `no_noise`: gates without noise.

What differs from the paper's settings: a ResNet-32 of width 8, and the learning rate falls along a
cosine. So few images SGNet knows by heart, and then the same is expected of all of them. What tells
them apart is a temperature of 4 in its soft target (docs/choices.md S6), on digits_hard also that
training blanks a square of each image, and noise of .5, under which gates stay less decided (S3).
docs/sgad.md has what each of these does.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import DIGITS, HARD
from jax_elastic.elastic.sgad.recipe import ABLATIONS, FINETUNING, SCRATCH, USES, experiment
from jax_elastic.training.words import choose

BACKBONE = {"stage_sizes": (5, 5, 5), "width": 8, "classes": 10}
P_MAX = {"mf": 0.4, "lf": 0.8}
GUIDING = {"temperature": 4.0, "noise": 0.5}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    data, use, ablation = choose(variant, ("digits", "hard"), USES, tuple(ABLATIONS))
    hard = data == "hard"
    # 270 images: small batches, so that as many epochs are enough steps.
    own = {"batch_size": 32 if hard else 128, "schedule": "cosine", "milestones": ()}
    scratch = {**SCRATCH, **own, "epochs": 200.0}
    finetuning = {**FINETUNING, **own, "epochs": 100.0}
    images = {**HARD, "cutout": 4} if hard else DIGITS
    return experiment(use, ablation, BACKBONE, P_MAX, images, scratch, finetuning, GUIDING)
