"""Plain ResNets on CIFAR-10: nothing elastic, for comparison and as a start for others.

Paper: He et al. 2016 (Deep Residual Learning for Image Recognition), section 4.2.
Command: python train.py --config=configs/resnet_cifar10.py:20 --workdir=runs/resnet20
Hardware: one accelerator, not tried yet; depth 20 takes 11 to 16 hours on 2 CPU cores.
Expected (paper): accuracy 91.25, 92.49, 93.03, 93.57 % at 20, 32, 56, 110 layers. Not reproduced
here yet; 5 epochs at depth 20 gave 81.2 % (docs/training.md).

Variants: depth `32` (default), `20`, `56`, `110`; and the recipe, `he2016` (default) or `anytime`:
that of `iresnext_cifar10.py`, for comparison with it.

64,000 steps of 128 images are 163.84 epochs of the 50,000 images. All of them are used and the last
checkpoint is reported, so nothing is chosen; pass --config.data.validation=0.1 to hold some out.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.anytime.recipe import ON_CIFAR, experiment
from jax_elastic.training.words import choose

STEPS_PER_EPOCH = 50_000 / 128
HE_2016 = {
    "epochs": 64_000 / STEPS_PER_EPOCH,
    "batch_size": 128,
    "milestones": (32_000 / STEPS_PER_EPOCH, 48_000 / STEPS_PER_EPOCH),
    "nesterov": False,
}
# At 110 layers SGD does not start at 0.1; the paper waits for 400 steps or so.
WARMUP = {
    "warmup_epochs": 400 / STEPS_PER_EPOCH,
    "warmup": "constant",
    "warmup_learning_rate": 0.01,
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, recipe = choose(variant, ("32", "20", "56", "110"), ("he2016", "anytime"))
    he2016 = recipe == "he2016"
    size = (int(depth) - 2) // 6
    backbone = {"stage_sizes": (size,) * 3, "width": 16, "classes": 10}
    return experiment(
        {"family": "plain", "backbone": backbone},
        {**CIFAR10, "validation": 0.0} if he2016 else CIFAR10,
        {**(HE_2016 if he2016 else ON_CIFAR), **(WARMUP if depth == "110" else {})},
    )
