"""Stochastic depth: in training, blocks of a residual network are left out at random, for each image anew.

Source: Huang et al., "Deep Networks with Stochastic Depth", 2016.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .errors import ConfigurationError
from .networks import last_norms

__all__ = ["apply_stochastic_depth"]


def apply_stochastic_depth(model: nn.Module, highest: float) -> None:
    """Let the last of the residual blocks in `model` be left out with a probability, and those before it with less.

    Block l of L has l / L of the `highest` probability. Where a block's branch stays, it is divided by the probability
    that it does, so evaluation needs no factor. It happens behind the branch's last batch norm: no name changes.

    Raises:
        ConfigurationError: there are no residual blocks.
    """
    norms = last_norms(model)
    if not norms:
        raise ConfigurationError(
            f"recipe.stochastic_depth={highest:g} needs residual blocks, as ResNets of torchvision have them (resnet, "
            f"resnext, wide_resnet), and {type(model).__name__} has none: choose another model.arch, or 0"
        )
    for number, norm in enumerate(norms, 1):
        norm.register_forward_hook(partial(_leave_out, probability=highest * number / len(norms)))


def _leave_out(module: nn.Module, inputs: Any, output: torch.Tensor, probability: float) -> torch.Tensor:
    from torchvision.ops import stochastic_depth

    return stochastic_depth(output, probability, "row", module.training)
