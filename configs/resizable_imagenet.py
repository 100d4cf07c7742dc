"""Resizable networks on ImageNet at the paper's settings, with its ablations.

Paper: Resizable Neural Networks (ICLR 2020 submission); what it leaves open: docs/choices.md.
Command: python train.py --config=configs/resizable_imagenet.py:resnet50 --workdir=runs/rs_resnet50
Hardware: accelerators. Hours: not measured yet.
Expected (paper, top-1 in % of one network, in brackets of networks trained one by one), at MACs:
ResNet-50 77.1 (76.4) at 4.1 G, 76.6 (75.4) at 2.8 G, 75.2 (74.2) at 2.0 G, 72.3 (71.6) at 1.1 G;
MobileNetV1 72.0 (70.6) at 569 M, 71.3 (70.0) at 462 M, 70.7 (69.5) at 391 M, 69.5 (68.1) at 291 M;
ShuffleNetV2 73.3 (72.6) at 299 M, 72.2 (71.5) at 251 M, 70.9 (70.3) at 199 M, 69.8 (69.2) at 147 M;
ResizableNet, which then goes on at the full resolution alone, 77.8 (77.4) at 365 M. Not reproduced
here yet.

Variants: `resnet50` (default), `mobilenet_v1`, `mobilenet_v2`, `shufflenet_v2`, `resizablenet`; and
one of those of `resizable_digits.py`, for example `resnet50,shared_bn`. `individual` and `plain`
have the paper's epochs, the others twice as many.

Our choices (docs/choices.md R2, R5): the scales; ResNet-50's first learning rate; momentum .9; .1
of label smoothing for ResizableNet; some 50,000 training images are held out, by which operating
points can be chosen. ResizableNet's last epochs, at the full resolution alone, are not there yet.

Images are read into memory as arrays, which a set of this size does not fit: the network builds,
counts and steps, but training it on the whole set waits for input that is streamed.
"""

from functools import partial

from ml_collections import ConfigDict

from jax_elastic.data.groups import IMAGENET
from jax_elastic.elastic.resizable.recipe import BACKBONES, TRAINING, experiment, train_as
from jax_elastic.elastic.resizable.variants import VARIANTS
from jax_elastic.training.words import choose

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    name, kind = choose(variant, tuple(BACKBONES), VARIANTS)
    backbone = partial(BACKBONES[name], classes=1000, stem="imagenet")
    network = {"scales": SCALES, "side": 224}
    return experiment(kind, backbone, network, IMAGENET, train_as(kind, TRAINING[name]))
