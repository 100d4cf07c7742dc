"""URNet on ImageNet at the paper's settings, and the static networks it is compared with.

Paper: URNet (AAAI 2020), table 2; what it leaves open: docs/choices.md.
Command: python train.py --config=configs/urnet_imagenet.py:resnet101 --workdir=runs/urnet_imagenet
Hardware: accelerators. Hours: not measured yet.
Expected (paper, ResNet-101, S = .2 .4 .6 .8 1): top-1 74.0 74.9 75.7 76.4 76.9 % with 18.78 19.77
22.01 26.94 32.00 of 33 blocks, FLOPs .94 .98 1.08 1.30 1.52e10 (2 per MAC). Static networks
(`base`): ResNet-72 75.8 % at 1.17e10, -75 75.9 at 1.21, -84 76.1 at 1.34, -101 76.4 at 1.56. B/A
with random drops (`ba_rand`): 26.2 49.9 64.1 71.6 76.0 %. Not reproduced here yet.

Variants: `resnet101` (default), `resnet84`, `resnet75`, `resnet72`, `resnet50`; and one of those of
`urnet_cifar10.py`, of which the paper runs `urnet`, `fixed0.5` to `fixed0.7`, `ba_rand` and `base`.

Images are read into memory as arrays, which a set of this size does not fit: the network builds,
counts and steps, but training it on the whole set waits for input that is streamed.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import IMAGENET
from jax_elastic.elastic.urnet.variants import BACKBONE, VARIANTS, vary
from jax_elastic.training.words import choose

# Blocks of the third stage; the others have 3, 4 and 3 (docs/choices.md B4, B5).
THIRD_STAGE = {"resnet101": 23, "resnet84": 18, "resnet75": 15, "resnet72": 14, "resnet50": 6}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, kind = choose(variant, tuple(THIRD_STAGE), tuple(VARIANTS))
    backbone = {
        "stage_sizes": (3, 4, THIRD_STAGE[depth], 3),
        "width": 64,
        "classes": 1000,
        "block": "bottleneck",
        "stem": "imagenet",
    }
    base = {
        "name": "base",
        "objective": "base",
        "pretrain": True,
        "trainable": BACKBONE,
        "bn": "batch",
        "epochs": 90.0,
        "batch_size": 256,
        "learning_rate": 0.1,
        "schedule": "step",
        "milestones": (30.0, 60.0),
        "weight_decay": 1e-4,
        "validate": False,
    }
    adam = {
        "objective": "gated",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "final_learning_rate": 1e-5,
        "batch_size": 256,
    }
    # What is trained here differs where other parameters make the gates: see VARIANTS.
    gates = {"name": "gates", "epochs": 5.0, "trainable": "/gate/", "bn": "running", **adam}
    joint = {"name": "joint", "epochs": 15.0, "bn": "batch", **adam}
    urnet = {"backbone": backbone, "reduction": 16, "p": 0.1, "beta": 4.0}
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = {**IMAGENET, "validation": 0.0}
    config.runtime = {"log_every": 100, "save_every": 1000}
    config.network, config.phases = vary(kind, urnet, (base, gates, joint))
    return config
