"""The network: one of torchvision's, with as many outputs as the data have classes, BlurPool if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import ModelConfig
from .errors import ConfigurationError
from .networks import OWN_NETWORKS, last_norms, make_own_network

__all__ = ["BlurPoolConv2d", "apply_blurpool", "has_new_last_layer", "load_weights", "make_model", "plain_weights"]

# Outputs of torchvision's trained networks.
_IMAGENET_CLASSES = 1000
# Below this many input channels (the first convolution on RGB) blurring costs more than it gives.
_LEAST_BLURRED_CHANNELS = 16


class BlurPoolConv2d(nn.Module):
    """A convolution with a stride behind a fixed 3x3 binomial blur, so that it does not alias.

    Where the convolution is one of 1x1, the blur takes the stride: of the blurred pixels nobody else would be used.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019. The names `conv` and `blur_filter`
    are FFCV's, so weights that its example saved can be loaded.
    """

    blur_filter: torch.Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.conv = conv
        self.register_buffer("blur_filter", torch.outer(row, row).expand(conv.in_channels, 1, 3, 3).clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Blur, then convolve."""
        conv = self.conv
        is_pointwise = conv.kernel_size == (1, 1) and conv.padding == (0, 0)
        blur, stride = self.blur_filter.to(images.dtype), conv.stride if is_pointwise else 1
        blurred = nn.functional.conv2d(images, blur, stride=stride, padding=1, groups=images.shape[1])
        if is_pointwise:
            return nn.functional.conv2d(blurred, conv.weight, conv.bias, groups=conv.groups)
        return conv(blurred)


def apply_blurpool(module: nn.Module) -> None:
    """Put a blur before every convolution in `module` that has a stride and at least 16 input channels."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= _LEAST_BLURRED_CHANNELS:
            setattr(module, name, BlurPoolConv2d(child))
        else:
            apply_blurpool(child)


def has_new_last_layer(config: ModelConfig, classes: int) -> bool:
    """Whether nothing is loaded into the last layer of `make_model`'s network."""
    if config.new_last_layer:
        return True
    if config.weights:
        return False
    return not config.pretrained or classes != _IMAGENET_CLASSES


def make_model(config: ModelConfig, classes: int, use_blurpool: bool) -> nn.Module:
    """The network on the CPU, with `classes` outputs and the weights that `config` asks for."""
    from torchvision import models

    if config.pretrained:
        model = _pretrained(config.arch, classes, config.new_last_layer)
    else:
        own = make_own_network(config.arch, classes)
        model = own or models.get_model(config.arch, weights=None, num_classes=classes, **_settings(config.arch))
    # Weights that were trained already have scales of their own.
    if config.zero_init and not config.pretrained:
        _begin_as_identity(model, config.arch)
    if use_blurpool:
        apply_blurpool(model)
    if config.weights:
        load_weights(model, Path(config.weights).expanduser(), but_last=config.new_last_layer)
    return model


def _pretrained(arch: str, classes: int, new_last_layer: bool) -> nn.Module:
    from torchvision import models

    if arch in OWN_NETWORKS:
        raise ConfigurationError(f"model.pretrained=1: there are no weights for {arch}: use model.weights")
    weights = models.get_model_weights(arch)
    # The older weights are those of the plain recipe, and the ones that `pretrained=True` has always meant.
    model = models.get_model(arch, weights=getattr(weights, "IMAGENET1K_V1", weights.DEFAULT), **_settings(arch))
    if new_last_layer or classes != _IMAGENET_CLASSES:
        name, last = _last_layer(model, arch)
        parent, _, key = name.rpartition(".")
        setattr(model.get_submodule(parent), key, nn.Linear(last.in_features, classes))
    return model


def _settings(arch: str) -> dict[str, Any]:
    """The two Inceptions without their auxiliary outputs: they are trained by the last one, as all others are."""
    return {"aux_logits": False, "init_weights": True} if arch in ("googlenet", "inception_v3") else {}


def _last_layer(model: nn.Module, arch: str = "this network") -> tuple[str, nn.Linear]:
    """The last linear layer and its name."""
    found = [(name, child) for name, child in model.named_modules() if isinstance(child, nn.Linear)]
    if not found:
        raise ConfigurationError(f"the last layer cannot be made anew for these classes: {arch} has no linear layer")
    return found[-1]


def _begin_as_identity(model: nn.Module, arch: str) -> None:
    """The scale of each residual block's last batch norm is 0 (Goyal et al., 2017)."""
    norms = [norm for norm in last_norms(model) if isinstance(norm, nn.BatchNorm2d)]
    if not norms:
        raise ConfigurationError(
            f"model.zero_init=1 is for residual networks with batch norms: {arch} has no such blocks"
        )
    for norm in norms:
        nn.init.zeros_(norm.weight)


def plain_weights(weights: dict[str, Any]) -> dict[str, Any]:
    """A state dict without the `module.` that a model wrapped for several ranks puts before each name."""
    return {name.removeprefix("module."): value for name, value in weights.items()}


def load_weights(model: nn.Module, path: Path, but_last: bool = False) -> None:
    """Load a file of weights into `model`.

    Args:
        model: the network.
        path: a state dict.
        but_last: leave the last linear layer as it is; the file's may have another number of outputs.

    Raises:
        ConfigurationError: the file cannot be read, or is another network's.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = plain_weights(weights)
        if but_last:
            name, own = _last_layer(model)[0], model.state_dict()
            weights |= {key: own[key] for key in own if key.startswith(f"{name}.")}
        model.load_state_dict(weights)
    except Exception as error:
        raise ConfigurationError(
            f"model.weights={path}: expected the state dict of this network, as final_weights.pt holds it: {error}"
        ) from error
