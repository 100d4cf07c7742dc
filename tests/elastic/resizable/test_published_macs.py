"""The counter gives the resized networks' MACs that docs/choices.md tells (N5, N7)."""

import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import Subnet

RESNET = ResNet((3, 4, 6, 3), width=64, classes=1000, block="bottleneck", stem="imagenet")
MACS = {
    RESNET: {
        (0.9, 1, 0.9, 1): 3489.7,
        (0.8, 0.8, 0.9, 0.9): 2793.5,
        (0.7, 0.7, 0.8, 0.8): 2276.6,
        (0.6, 0.5, 0.8, 0.9): 2000.6,
        (0.5, 0.5, 0.5, 0.5): 1104.0,
    },
    ShuffleNetV2(): {
        (1, 0.8, 1, 0.9): 251.0,
        (0.9, 0.9, 0.9, 0.6): 199.3,
        (0.8, 0.6, 0.8, 0.7): 146.6,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", MACS, ids=["resnet50", "shufflenet_v2"])
def test_resized_networks_cost_what_their_choices_tell(backbone):
    model = CostModel(Resizable(backbone, side=224), (224, 224, 3))
    found = {scales: model.cost(Subnet("resolution", scales)).full for scales in MACS[backbone]}
    assert {scales: round(macs / 1e6, 1) for scales, macs in found.items()} == MACS[backbone]
