"""The network: ResNet-50 from its blocks up, and whatever `--arch` names.

Convolutions begin as Kaiming's normal distribution (fan-out); the last batch norm of each block may begin at 0.
"""

from __future__ import annotations

import checkout  # noqa: F401
from torch import nn
from trainer.config import ModelConfig
from trainer.model import make_model
from trainer.networks import Bottleneck, ResNet

__all__ = ["Bottleneck", "ResNet", "count_parameters", "make_model", "resnet50"]


def resnet50(classes: int = 1000, zero_init: bool = True) -> nn.Module:
    """A ResNet-50 with random weights: 25,557,032 parameters for 1,000 classes.

    Args:
        classes: outputs.
        zero_init: residual blocks begin as the identity.
    """
    return make_model(ModelConfig(arch="scratch_resnet50", zero_init=zero_init), classes, use_blurpool=False)


def count_parameters(model: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
