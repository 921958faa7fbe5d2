"""The loss of a training, for labels and for mixed ones."""

from __future__ import annotations

import math

import torch
from torch import nn

from .config import TrainerConfig

__all__ = ["BinaryCrossEntropy", "begin_at_prior", "make_loss"]

# Share of a mixed image above which a class is in it.
_LEAST_SHARE = 0.2


class BinaryCrossEntropy(nn.Module):
    """Each class is a question of its own, answered by yes or no; the sum over classes, the mean over images.

    Of a mixed image each class with more than a fifth of it is a yes, as in the paper's best recipes. The paper takes
    the mean over the classes, with an optimizer to which the gradient's size is nothing; with the sum SGD's learning
    rates keep their order of magnitude.

    Source: Wightman, Touvron and Jégou, "ResNet strikes back", 2021.

    Args:
        label_smoothing: s; a yes is 1 - s + s / classes, a no s / classes.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of outputs `[batch, classes]`, for labels `int64[batch]` or shares `[batch, classes]`."""
        classes = outputs.shape[1]
        if not targets.is_floating_point():
            targets = nn.functional.one_hot(targets, classes)
        answers = (targets > _LEAST_SHARE).float() * (1 - self.label_smoothing) + self.label_smoothing / classes
        total = nn.functional.binary_cross_entropy_with_logits(outputs.float(), answers, reduction="sum")
        return total / len(outputs)


@torch.no_grad()
def begin_at_prior(model: nn.Module, classes: int) -> None:
    """Let a new network's answers begin at one yes among `classes`, by the bias of its last linear layer.

    Else they begin at a half for each class, and the first steps of a thousand classes are hundreds of times too large.
    Networks that end in another layer stay as they are.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if layers and layers[-1].out_features == classes and layers[-1].bias is not None:
        layers[-1].bias.fill_(-math.log(max(classes - 1, 1)))


def make_loss(config: TrainerConfig) -> nn.Module:
    """What `recipe.loss` and `training.label_smoothing` ask for."""
    kind = BinaryCrossEntropy if config.recipe.loss == "bce" else nn.CrossEntropyLoss
    return kind(label_smoothing=config.training.label_smoothing)
