"""The chains of parts that a config can name; a new one joins them here.

In Python whatever says its parts will do, see `jax_elastic.backbones.parts`.
"""

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2

AnyChain = ResNet | MobileNetV1 | MobileNetV2 | ShuffleNetV2 | ResizableNet
"""By the names of these classes in lower case; the first where a config names none."""
