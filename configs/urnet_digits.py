"""URNet on handwritten digits: the demo, and what `train.py` runs without flags.

Paper: URNet (AAAI 2020), in small; its settings are those of `urnet_cifar10.py`.
Command: python train.py --config=configs/urnet_digits.py --workdir=runs/demo
Hardware: 2 CPU cores. Time: about 2 minutes.
Expected, on test (seed 0, 2 cores): usage within 3 points of the budget at S = .2 to .9, from 20 %
to 93 % of the 15 blocks; top-1 98.1 to 98.6 % at every budget, the plain network (`:base`) 99.2 %.

Variants: `base` is the plain network, trained as long with the base phase's recipe.

What differs from the paper's settings (`urnet_cifar10.py`), and why. Digits are so easy that gates
depend mostly on S. Budgets are drawn from [0, 1]: with [0.2, 1] some gates close for ever and the
range of usage shrinks. p is 0.3 instead of 0.1 for the same reason, beta 8 instead of 2, the
learning rate 5e-3 instead of 1e-3. URNet has one set of BN statistics for all S, so those of the
largest budgets fit worst: the statistics average over more steps (bn_momentum 0.99), and a last
phase, `settle`, trains under the running statistics that are used at test.
"""

from ml_collections import ConfigDict

from jax_elastic.training.variants import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (kind,) = choose(variant, ("urnet", "base"))
    backbone = {"stage_sizes": (5, 5, 5), "width": 8, "classes": 10}
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
    adam["schedule"] = "cosine"
    joint = {**adam, "name": "joint", "epochs": 200.0, "final_learning_rate": 1e-3}
    settle = {
        **adam,
        "name": "settle",
        "epochs": 60.0,
        "bn": "running",
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-5,
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
            "bn_momentum": 0.99,
            "p": 0.3,
            "beta": 8.0,
            "s_min": 0.0,
            "s_max": 1.0,
        }
        config.phases = (base, gates, joint, settle)
        config.runtime.validation_budgets = (0.4, 0.8)
    return config
