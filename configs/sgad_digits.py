"""SGAD on handwritten digits: the blocks of an image are chosen before the first of them runs.

Paper: SGAD (2018), in small; its settings are those of `sgad_cifar10.py`.
Command: python train.py --config=configs/sgad_digits.py --workdir=runs/sgad
Hardware: 2 CPU cores. Time: about 4 minutes of processor time, 1.5 for `hard`.
Expected, on test (seed 0): top-1 99.4 % with 12.4 of the 14 blocks that can be dropped (std over
images .5), .97 M MACs of the plain network's 1.07; `hard` 87.0 % with 11.0 blocks (std .1), 2.0 M
of 2.4. So the plan hardly depends on the image yet: SGNet is soon sure of every training image,
and then p_max is expected of all of them. `hard,lf` from there: 86.1 % with 10.8 blocks (std .4); a
hundred epochs at a rate of .01 are too few here to come near the .6 that is expected.

Variants: `digits` (default) or `hard`, which trains on digits_hard, 300 images amid clutter and
noise; one of
  `mf` (default): drops a little, trained from scratch;
  `lf`: drops more, finetuned from a run of `mf`, --config.init_from=WORKDIR;
  `plain`: the network without gates, by the recipe of `mf`;
and one of
  `concave` (default), `convex`, `linear`: how certainty becomes the share of blocks to drop;
  `constant`: the same share for every image; `no_sgnet`: none; `no_noise`: gates without noise.

What differs from the paper's settings: a ResNet-32 of width 8, and the learning rate falls along a
cosine. What is expected differs between images because SGNet's soft target has a temperature of 4
(docs/choices.md S6), on digits_hard also because training blanks a square of each image: without
both SGNet knows so few images by heart. Noise of 2 would be more than logits grow against in so few
steps (S3).
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
