"""A resizable ResNet on handwritten digits: one set of weights, 27 resolutions, in some minutes.

Paper: Resizable Neural Networks (ICLR 2020 submission), in small.
Command: python train.py --config=configs/resizable_digits.py --workdir=runs/rs
Hardware: 2 CPU cores. Time: about 2 minutes.
Expected, on test (seed 0, 2 cores): top-1 97.2 to 99.4 % at 26 of the 27 operating points and
96.9 % at the other, for 1.7 to 6.6 M MACs; the cheapest has 98.1 %, the fullest 97.5 %.

Variants: `digits` (default) or `hard`, which trains on digits_hard, 300 images amid clutter and
noise; and one of
  `rs` (default): fair sampling, BN layers for each scale;
  `naive`: the scales of a step are drawn independently;
  `shared_bn`: one set of BN layers for all scales;
  `input_only`: only the image is resized;
  `nas`: a point of a trained network is finetuned, --config.subnet=... --config.init_from=WORKDIR;
  `adapt`: on a trained network a learner chooses the point of each image, as it is taught by what
    `python -m jax_elastic targets --workdir=WORKDIR` makes, which also says the flags;
  `aug`: as `rs`, and from 60 % of the epochs on the fullest point alone;
  `aug_no_banks`: the same with one set of BN layers for all scales;
  `individual`: one operating point alone, --config.subnet=resolution:.5,.75,1 or another;
  `plain`: the fullest alone, which is what a network that is not resizable would be trained as;
  `cutout`, `mixup`: the same with that augmentation.

What differs from the paper's settings: images are resized to 32x32, for a ResNet of basic blocks
and width 8 whose maps of 32, 16 and 8 pixels have 3 scales each, and the learning rate falls along
a cosine. The learner of `adapt` has 32 channels; one of 256 costs more than the fullest network.
"""

from functools import partial

from ml_collections import ConfigDict

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.groups import DIGITS, HARD
from jax_elastic.elastic.resizable.recipe import experiment
from jax_elastic.elastic.resizable.variants import VARIANTS
from jax_elastic.training.words import choose

BACKBONE = partial(ResNet, stage_sizes=(2, 2, 2), width=8)
NETWORK = {"scales": (0.5, 0.75, 1.0), "side": 32}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    data, kind = choose(variant, ("digits", "hard"), VARIANTS)
    hard = data == "hard"
    training = {
        # 270 images: small batches, so that as many epochs are enough steps.
        "epochs": 100.0 if hard else 25.0,
        "batch_size": 32 if hard else 64,
        "learning_rate": 0.1,
        "nesterov": True,
        "weight_decay": 1e-4,
        "schedule": "cosine",
    }
    images = HARD if hard else DIGITS
    config = experiment(kind, BACKBONE, NETWORK, images, training)
    if kind == "adapt":
        config.network.width = 32
    return config
