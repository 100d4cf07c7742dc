"""URNet on CIFAR-10 at the paper's settings.

Paper: URNet (AAAI 2020), table 1, last row; SPEC section 2.
Command: python train.py --config=configs/urnet_cifar10.py:110 --workdir=runs/urnet_cifar10_110
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, ResNet-110, S = .2 .4 .6 .8 1): accuracy 92.2 93.3 93.7 93.7 93.6 % with 18.08
20.86 32.02 44.37 52.19 of 54 blocks; the base network 93.2 %. Not reproduced here yet.

Variants: depth `110` (default) or `32`; `base` is the plain network, the first phase alone.

All training images are used and the last checkpoint is reported, so nothing is chosen; pass
--config.data.validation=0.1 to hold some out.
"""

from ml_collections import ConfigDict

from jax_elastic.training.variants import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, kind = choose(variant, ("110", "32"), ("urnet", "base"))
    size = (int(depth) - 2) // 6
    backbone = {"stage_sizes": (size,) * 3, "width": 16, "classes": 10}
    base = {
        "name": "base",
        "objective": "base",
        "epochs": 200.0,
        "learning_rate": 0.1,
        "schedule": "step",
        "milestones": (100.0, 150.0),
        "weight_decay": 1e-4,
        "validate": kind == "base",
    }
    if depth == "110":
        # At this depth SGD does not start at 0.1 (He et al. 2016, section 4.2).
        base |= {"warmup_epochs": 1.0, "warmup_learning_rate": 0.01}
    adam = {
        "objective": "gated",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "final_learning_rate": 1e-5,
        "batch_size": 256,
    }
    gates = {"name": "gates", "epochs": 100.0, "trainable": "/gate/", "bn": "running", **adam}
    joint = {"name": "joint", "epochs": 400.0, **adam}
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
    if kind == "base":
        config.network = {"family": "plain", "backbone": backbone}
        config.phases = (base,)
    else:
        config.network = {"family": "urnet", "backbone": backbone, "p": 0.1, "beta": 2.0}
        config.phases = (base, gates, joint)
    return config
