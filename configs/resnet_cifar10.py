"""Plain ResNets on CIFAR-10: nothing elastic, for comparison and as a start for others.

Paper: He et al. 2016 (Deep Residual Learning for Image Recognition), section 4.2.
Command: python train.py --config=configs/resnet_cifar10.py:20 --workdir=runs/resnet20
Hardware: one accelerator, not tried yet; depth 20 takes 11 to 16 hours on 2 CPU cores.
Expected (paper): accuracy 91.25, 92.49, 93.03, 93.57 % at 20, 32, 56, 110 layers. Not reproduced
here yet; 5 epochs at depth 20 gave 81.2 % (docs/training.md).

Variants: depth `32` (default), `20`, `56`, `110`.

64,000 steps of 128 images are 163.84 epochs of the 50,000 images. All of them are used and the last
checkpoint is reported, so nothing is chosen; pass --config.data.validation=0.1 to hold some out.
"""

from ml_collections import ConfigDict

from jax_elastic.training.words import choose

STEPS_PER_EPOCH = 50_000 / 128


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (depth,) = choose(variant, ("32", "20", "56", "110"))
    size = (int(depth) - 2) // 6
    only = {
        "name": "base",
        "objective": "base",
        "epochs": 64_000 / STEPS_PER_EPOCH,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "step",
        "milestones": (32_000 / STEPS_PER_EPOCH, 48_000 / STEPS_PER_EPOCH),
        "weight_decay": 1e-4,
    }
    if depth == "110":
        # At this depth SGD does not start at 0.1; the paper waits for 400 steps or so.
        epochs = 400 / STEPS_PER_EPOCH
        only |= {"warmup_epochs": epochs, "warmup": "constant", "warmup_learning_rate": 0.01}
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = {
        "name": "cifar10",
        "image_shape": (32, 32, 3),
        "validation": 0.0,
        "pad": 4,
        "flip": True,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    config.runtime = {"log_every": 200, "save_every": 2000}
    backbone = {"stage_sizes": (size,) * 3, "width": 16, "classes": 10}
    config.network = {"family": "plain", "backbone": backbone}
    config.phases = (only,)
    return config
