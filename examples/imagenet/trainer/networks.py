"""ResNets of our own beside torchvision's: ResNet-50 written out, and ResNet-18 for CIFAR with and without batch norms.

Their parameters have torchvision's names, so its weights fit where the network is the same.

Source: He et al., "Deep Residual Learning for Image Recognition", 2015; the stride of a bottleneck stands in its 3x3
convolution, as torchvision and NVIDIA have it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["OWN_NETWORKS", "BasicBlock", "Bottleneck", "ResNet", "last_norms", "make_own_network"]

_STAGE_CHANNELS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and what goes past them.

    Args:
        inputs, channels: channels that come in, and of the convolutions.
        stride: of the first convolution.
        norm: makes a normalisation of so many channels.
    """

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, channels, stride, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        past = images if self.downsample is None else self.downsample(images)
        images = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(images)) + past)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, the last of which makes four times the channels. Arguments as above."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = norm(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        past = images if self.downsample is None else self.downsample(images)
        images = self.relu(self.bn1(self.conv1(images)))
        images = self.relu(self.bn2(self.conv2(images)))
        return self.relu(self.bn3(self.conv3(images)) + past)


def _shortcut(inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


class ResNet(nn.Module):
    """Four stages of residual blocks between a stem and a linear layer.

    Args:
        block: the kind of block.
        depths: blocks of each stage.
        classes: outputs.
        cifar: a 3x3 stem without pooling, for images of 32 pixels, instead of the 7x7 one with stride and pooling.
        norm: makes a normalisation of so many channels.
        kaiming: convolutions begin with He's weights (fan-out), else with torch's, which are smaller. Where nothing
            normalises what blocks add up, He's let the loss overflow within a few steps at usual rates.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        classes: int,
        cifar: bool = False,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        kaiming: bool = True,
    ) -> None:
        super().__init__()
        first = _STAGE_CHANNELS[0]
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False) if cifar else nn.Conv2d(3, first, 7, 2, 3, bias=False)
        self.bn1 = norm(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        inputs = first
        for number, (channels, depth) in enumerate(zip(_STAGE_CHANNELS, depths, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(block(inputs, channels, 2 if number and not position else 1, norm))
                inputs = channels * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if kaiming and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Outputs `[batch, classes]` of images `[batch, 3, height, width]`."""
        images = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        images = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return self.fc(self.avgpool(images).flatten(1))


def _no_norm(channels: int) -> nn.Module:
    return nn.Identity()


OWN_NETWORKS: dict[str, Callable[[int], ResNet]] = {
    "scratch_resnet50": lambda classes: ResNet(Bottleneck, (3, 4, 6, 3), classes),
    "cifar_resnet18": lambda classes: ResNet(BasicBlock, (2, 2, 2, 2), classes, cifar=True),
    "cifar_resnet18_no_norm": lambda classes: ResNet(
        BasicBlock, (2, 2, 2, 2), classes, cifar=True, norm=_no_norm, kaiming=False
    ),
}


def make_own_network(name: str, classes: int) -> ResNet | None:
    """The network of that name with so many outputs; `None` where it is not one of these."""
    make = OWN_NETWORKS.get(name)
    return make(classes) if make else None


def last_norms(model: nn.Module) -> list[nn.Module]:
    """The last normalisation of each residual block, in order; of these networks and of torchvision's ResNets."""
    from torchvision.models import resnet

    found = []
    for module in model.modules():
        if isinstance(module, (Bottleneck, resnet.Bottleneck)):
            found.append(module.bn3)
        elif isinstance(module, (BasicBlock, resnet.BasicBlock)):
            found.append(module.bn2)
    return found
