"""URNet on CIFAR-10 at the paper's settings, with its baselines and ablations.

Paper: URNet (AAAI 2020), table 1; what it leaves open: docs/choices.md.
Command: python train.py --config=configs/urnet_cifar10.py:110 --workdir=runs/urnet_cifar10_110
Hardware: one accelerator. Hours: not measured yet.
Expected (paper, ResNet-110, S = .2 .4 .6 .8 1): accuracy 92.2 93.3 93.7 93.7 93.6 % with 18.08
20.86 32.02 44.37 52.19 of 54 blocks; the base network 93.2 %. Not reproduced here yet.

Variants: depth `110` (default) or `32`, and one of
  `urnet` (default); `beta1`, `beta2`, `beta4`, `beta8`: another weight of the scale loss;
  `fixed0.5`, `fixed0.6`, `fixed0.7`: URNet(Fixed), trained for that budget alone;
  `sg`, `bg`: gates always soft, never soft in training; `ba`: trained as `sg`, evaluated soft;
  `ba_rand`: soft gates and random drops; `external`: a policy network decides all gates;
  `rand_train`, `rand_val`: random drops at train and test, at test alone; `base`: plain network.

All variants start from the same base. It is trained here, or taken from another run of this file:
--config.init_from=WORKDIR leaves out the first phase.

All training images are used and the last checkpoint is reported, so nothing is chosen; pass
--config.data.validation=0.1 to hold some out.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.urnet.variants import BACKBONE, VARIANTS, vary
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    depth, kind = choose(variant, ("110", "32"), tuple(VARIANTS))
    size = (int(depth) - 2) // 6
    backbone = {"stage_sizes": (size,) * 3, "width": 16, "classes": 10}
    base = {
        "name": "base",
        "objective": "base",
        "pretrain": True,
        "trainable": BACKBONE,
        "epochs": 200.0,
        "learning_rate": 0.1,
        "schedule": "step",
        "milestones": (100.0, 150.0),
        "weight_decay": 1e-4,
        "validate": False,
    }
    if depth == "110":
        # At this depth SGD does not start at 0.1 (He et al. 2016, section 4.2).
        warmup = {"warmup_epochs": 1.0, "warmup": "constant", "warmup_learning_rate": 0.01}
        base |= warmup
    adam = {
        "objective": "gated",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "final_learning_rate": 1e-5,
        "batch_size": 256,
    }
    # What is trained here differs where other parameters make the gates: see VARIANTS.
    gates = {"name": "gates", "epochs": 100.0, "trainable": "/gate/", "bn": "running", **adam}
    joint = {"name": "joint", "epochs": 400.0, **adam}
    urnet = {"backbone": backbone, "p": 0.1, "beta": 2.0}
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = {**CIFAR10, "validation": 0.0}
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.network, config.phases = vary(kind, urnet, (base, gates, joint))
    return config
