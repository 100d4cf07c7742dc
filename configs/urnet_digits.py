"""URNet on handwritten digits: the demo, and what `train.py` runs without flags.

Paper: URNet (AAAI 2020), in small; its settings are those of `urnet_cifar10.py`.
Command: python train.py --config=configs/urnet_digits.py --workdir=runs/demo
Hardware: 2 CPU cores. Time: about 2 minutes.
Expected: see README.

Variants: `base` is the plain network, trained as long with the base phase's recipe.

What differs from the paper, and why: digits are so easy that gates depend mostly on S. Budgets
are drawn from [0, 1] (with [0.2, 1] some gates close for ever and the range of usage shrinks),
p is 0.3 instead of 0.1 (wider range of usage), beta 8 instead of 2, the learning rate 5e-3
instead of 1e-3, and the joint phase is by far the longest.
"""

from ml_collections import ConfigDict

from jax_elastic.training.variants import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (kind,) = choose(variant, ("urnet", "base"))
    backbone = {"stage_sizes": (3, 3, 3), "width": 8, "classes": 10}
    base = {
        "name": "base",
        "objective": "base",
        "epochs": 20.0,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "weight_decay": 1e-4,
        "validate": False,
    }
    adam = {"objective": "gated", "optimizer": "adam", "learning_rate": 5e-3}
    gates = {"name": "gates", "epochs": 40.0, "trainable": "/gate/", "bn": "running", **adam}
    joint = {
        "name": "joint",
        "epochs": 260.0,
        "schedule": "cosine",
        "final_learning_rate": 5e-5,
        **adam,
    }
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = {"name": "digits", "pad": 1, "flip": False}
    config.runtime = {"log_every": 200}
    if kind == "base":
        config.network = {"family": "plain", "backbone": backbone}
        config.phases = ({**base, "epochs": 320.0, "validate": True},)
    else:
        config.network = {
            "family": "urnet",
            "backbone": backbone,
            "p": 0.3,
            "beta": 8.0,
            "s_min": 0.0,
            "s_max": 1.0,
        }
        config.phases = (base, gates, joint)
        config.runtime.validation_budgets = (0.4, 0.8)
    return config
