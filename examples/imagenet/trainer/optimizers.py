"""The optimizers, and which parameters have weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .config import RunConfig
from .errors import ConfigurationError

__all__ = ["make_optimizer", "parameter_groups", "set_rate"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
_MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Learning rate of the parameters that Muon leaves to AdamW, as a share of Muon's own: that of pytorch_optimizer's
# defaults, 3e-4 beside 0.02.
_ADAMW_SHARE = 0.015


def parameter_groups(model: nn.Module, weight_decay: float, no_decay: str = "norms") -> list[dict[str, Any]]:
    """Parameters for an optimizer in two groups: those that are never decayed, and all others.

    A normalisation is told by its type: a test of names for 'bn' misses the ones inside ResNet's `downsample`.

    Args:
        no_decay: `"norms"`, `"norms_and_biases"` or `"nothing"`.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    free, decayed = [], []
    for name, parameter in model.named_parameters():
        is_free = no_decay != "nothing" and id(parameter) in norms
        is_free |= no_decay == "norms_and_biases" and name.rpartition(".")[2] == "bias"
        (free if is_free else decayed).append(parameter)
    return [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def make_optimizer(config: RunConfig, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimizer that `training.optimizer` names.

    Raises:
        ConfigurationError: the package that has it is not installed.
    """
    groups = parameter_groups(model, config.weight_decay, config.no_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.nesterov)
    if config.optimizer == "lars":
        return _package().LARS(groups, lr=rate, momentum=config.momentum, nesterov=config.nesterov)
    if config.optimizer == "muon":
        return _muon(config, model, groups, rate)
    kinds = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
    }
    return kinds[config.optimizer](groups, lr=rate)


def _muon(config: RunConfig, model: nn.Module, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Muon for the weights of convolutions and of hidden linear layers, AdamW for what else there is.

    A matrix is told by the type of its module: tokens and positions of a transformer have two dimensions and more, too.
    """
    matrices = [module.weight for module in model.modules() if isinstance(module, _MATRICES)]
    outputs = [module.weight for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    matrices += [
        module.in_proj_weight
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    ]
    for_muon = {id(weight) for weight in matrices} - {id(weight) for weight in outputs}
    made = []
    for group in groups:
        for is_matrix in (True, False):
            params = [parameter for parameter in group["params"] if (id(parameter) in for_muon) == is_matrix]
            if params:
                share = 1.0 if is_matrix else _ADAMW_SHARE
                made.append({**group, "params": params, "use_muon": is_matrix, "rate_share": share, "lr": rate * share})
    return _package().Muon(made, lr=rate, momentum=config.momentum, nesterov=config.nesterov)


def _package() -> Any:
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise ConfigurationError(
            "training.optimizer=lars and muon come from the package pytorch_optimizer, which is not installed: "
            "pip install pytorch_optimizer"
        ) from error
    return pytorch_optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_share", 1.0)
