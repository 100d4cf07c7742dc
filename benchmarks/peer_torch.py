"""The plain network's training step in PyTorch, to compare times with.

The same network (ResNet for CIFAR, docs/choices.md B2 and B3) and the same step: batch
normalisation of the batch, cross-entropy, SGD with momentum and weight decay. It runs as PyTorch's
own examples run it: eager, `zero_grad`, `backward`, `step`. Only `benchmarks.train_step
--peer=torch` needs it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.training.phases import Phase


class Block(nn.Module):
    """ReLU(shortcut(x) + F(x)) with F = conv3x3-BN-ReLU-conv3x3-BN."""

    def __init__(self, channels: int, features: int, stride: int):
        super().__init__()
        self.stride, self.added = stride, features - channels
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, features, H / stride, W / stride)."""
        found = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        found = self.bn2(self.conv2(found))
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return functional.relu(found + x, inplace=True)


class Network(nn.Module):
    """A ResNet for CIFAR of basic blocks."""

    def __init__(self, architecture: ResNet, channels: int = 3):
        super().__init__()
        width = architecture.width
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks = []
        for site in architecture.sites():
            blocks.append(Block(width, site.features, site.stride))
            width = site.features
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, architecture.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, channels, H, W) -> (B, classes)."""
        x = functional.relu(self.bn(self.conv(images)), inplace=True)
        return self.classifier(self.blocks(x).mean((2, 3)))


def training_step(
    network: Network, phase: Phase, images: Tensor, labels: Tensor, channels_last: bool = False
) -> Callable[[], float]:
    """A step of a phase on a batch that is there; it returns the loss.

    Its threads are those of `torch.set_num_threads`.

    Args:
      network: is trained.
      phase: gives learning rate, momentum and weight decay.
      images: float32 (B, channels, H, W).
      labels: int64 (B,).
      channels_last: PyTorch's other layout of images in memory, for images and network.
    """
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=phase.learning_rate,
        momentum=phase.momentum,
        weight_decay=phase.weight_decay,
    )

    def once() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return once
