"""Resizable networks on CIFAR-10: the backbones of `resizable_imagenet.py`, sized for its images.

Paper: Resizable Neural Networks (ICLR 2020 submission), which has no results on CIFAR.
Command: python train.py --config=configs/resizable_cifar10.py:resnet50 --workdir=runs/rs_cifar10
Hardware: one accelerator. Hours: not measured yet.
Expected: nothing is printed to compare with. Not trained yet.

Variants: `resnet50` (default), `mobilenet_v1`, `mobilenet_v2`, `shufflenet_v2`, `resizablenet`; and
one of those of `resizable_digits.py`, for example `mobilenet_v1,naive`. ResizableNet is trained as
`aug` where none is named, and has `no_aug`, which is `plain`.

All settings here are ours. The stem has no stride and no pool, and the first blocks that halve the
map do so from 32 pixels on. There are three scales, because the last map has 4 pixels at most. It
is trained as on ImageNet, with batches of 128 and a learning rate divided as the batch is. 5,000
training images are held out.
"""

from functools import partial

from ml_collections import ConfigDict

from jax_elastic.data.groups import CIFAR10
from jax_elastic.elastic.resizable.recipe import BACKBONES, experiment, kinds, training
from jax_elastic.training.words import choose

SCALES = (0.5, 0.75, 1.0)
BATCH = 128


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    name, kind = choose(variant, tuple(BACKBONES), kinds(variant))
    backbone = partial(BACKBONES[name], classes=10, stem="cifar")
    network = {"scales": SCALES, "side": 32}
    large = training(name, kind)
    rate = large["learning_rate"] * BATCH / large["batch_size"]
    phase = {**large, "batch_size": BATCH, "learning_rate": rate}
    return experiment(kind, backbone, network, CIFAR10, phase)
