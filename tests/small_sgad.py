"""One small SGAD for many tests; no number of it is its default."""

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.sgad.sgad import SGAD

# Two of three blocks can be dropped.
TINY = ResNet((2, 1), width=8, classes=5)
NETWORK = SGAD(TINY, temperature=2.0, weight_r=2.0, weight_b=3.0, weight_s=0.5)
