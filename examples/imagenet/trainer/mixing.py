"""Mixup and CutMix: each image of a batch is mixed with the one before it, and so are their labels.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017; Yun et al., "CutMix: Regularization Strategy
to Train Strong Classifiers with Localizable Features", 2019. The work is torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .config import RecipeConfig

__all__ = ["Mix", "make_mix"]

Mix = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def make_mix(recipe: RecipeConfig, classes: int) -> Mix | None:
    """What `recipe.mixup` and `recipe.cutmix` ask for, of both one at random for each batch; `None`: neither.

    It takes images `[batch, 3, height, width]` and labels `int64[batch]`, draws from torch's generator on the CPU, and
    returns new images and each image's shares of classes, `[batch, classes]`.
    """
    if not recipe.mixup and not recipe.cutmix:
        return None
    # Late, because importing torchvision takes seconds.
    from torchvision.transforms import v2

    kinds = [(v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)]
    chosen = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]
    return chosen[0] if len(chosen) == 1 else v2.RandomChoice(chosen)
