"""Resizable networks on ImageNet at the paper's settings, with its ablations.

Paper: Resizable Neural Networks (ICLR 2020 submission); what it leaves open: docs/choices.md.
Command: python train.py --config=configs/resizable_imagenet.py:resnet50 --workdir=runs/rs_resnet50
Hardware: accelerators. Hours: not measured yet.
Expected (paper, top-1 in % of one network, in brackets of networks trained one by one), at MACs:
ResNet-50 77.1 (76.4) at 4.1 G, 76.6 (75.4) at 2.8 G, 75.2 (74.2) at 2.0 G, 72.3 (71.6) at 1.1 G;
MobileNetV1 72.0 (70.6) at 569 M, 71.3 (70.0) at 462 M, 70.7 (69.5) at 391 M, 69.5 (68.1) at 291 M;
ShuffleNetV2 73.3 (72.6) at 299 M, 72.2 (71.5) at 251 M, 70.9 (70.3) at 199 M, 69.8 (69.2) at 147 M;
ResizableNet (`aug`, in brackets `no_aug`) 77.8 (77.4) at 365 M;
`nas` of ResNet-50 77.8 at 3.5 G, 77.4 at 2.8 G, 76.8 at 2.3 G, 76.5 at 2.0 G, 72.8 at 1.1 G, and of
MobileNetV1 71.9 at 391 M, 70.9 at 291 M;
at full resolution ResNet-50 `plain` 76.4, `cutout` 76.5, `mixup` 76.7, `aug_no_banks` 76.9, `aug`
78.8; ShuffleNetV2 `plain` 72.6, `aug_no_banks` 72.8, `aug` 73.7. Not reproduced here yet.

Variants: `resnet50` (default), `mobilenet_v1`, `mobilenet_v2`, `shufflenet_v2`, `resizablenet`; and
one of those of `resizable_digits.py`, for example `resnet50,shared_bn`:
  `rs` (default), `naive`, `shared_bn`, `input_only`: all operating points, in twice the epochs of
    the paper's network for one;
  `nas`: goes on with one point of a trained network, --config.subnet and --config.init_from;
  `adapt`: on a trained network a learner chooses the point of each image, as it is taught by what
    `python -m jax_elastic targets --workdir=WORKDIR` makes, which also says the flags;
  `aug`, `aug_no_banks`: all points, then the fullest alone, in the epochs of the network for one;
  `individual`, `plain`, `cutout`, `mixup`: one point alone, in those epochs.
ResizableNet has the paper's 480 epochs in all of them but `nas` and `adapt`, is trained as `aug`
where none is named, and has `no_aug`, which is `plain`.

Our choices (docs/choices.md R2, R5, R14, R15): the scales; ResNet-50's first learning rate;
momentum .9; .1 of label smoothing for ResizableNet; the rate of finetuning, and when to switch;
some 50,000 training images are held out, by which operating points can be chosen.

Images are read into memory as arrays, which a set of this size does not fit: the network builds,
counts and steps, but training it on the whole set waits for input that is streamed.
"""

from functools import partial

from ml_collections import ConfigDict

from jax_elastic.data.groups import IMAGENET, INCEPTION
from jax_elastic.elastic.resizable.recipe import BACKBONES, experiment, kinds, training
from jax_elastic.training.words import choose

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    name, kind = choose(variant, tuple(BACKBONES), kinds(variant))
    backbone = partial(BACKBONES[name], classes=1000, stem="imagenet")
    network = {"scales": SCALES, "side": 224}
    images = INCEPTION if name == "resizablenet" else IMAGENET
    return experiment(kind, backbone, network, images, training(name, kind))
