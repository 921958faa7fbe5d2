"""Mixed precision, progressive resizing, weight decay by kind of parameter, and the rule for learning rates."""

from __future__ import annotations

from typing import Any

import checkout  # noqa: F401
import torch
from config import PRECISIONS
from torch import nn
from trainer.errors import ConfigurationError
from trainer.learner import choose_precision
from trainer.optimizers import parameter_groups
from trainer.values import Stage, Stages, stages_of

__all__ = [
    "Stage",
    "autocast",
    "parse_progressive_schedule",
    "scaled_learning_rate",
    "stage_of_epoch",
    "weight_decay_groups",
]

_BASE_BATCH = 256


def autocast(amp: str, device: torch.device | str) -> torch.autocast:
    """A context in which networks compute in `"fp16"`, `"bf16"` or, with `"off"`, fp32.

    Raises:
        ConfigurationError: another word, or fp16 on a CPU.
    """
    if amp not in PRECISIONS:
        raise ConfigurationError(f"expected {', '.join(PRECISIONS)}, found {amp!r}")
    device = torch.device(device)
    dtype = choose_precision(PRECISIONS[amp], device)
    enabled = dtype is not torch.float32
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)


def parse_progressive_schedule(text: str) -> tuple[Stage, ...]:
    """The stages of `"epoch,size,batch;..."`: from each epoch on, side in pixels and batch a GPU.

    Raises:
        ConfigurationError: it is no such text.
    """
    check = Stages()
    try:
        return stages_of(check.parse(text))
    except ValueError as error:
        raise ConfigurationError(f"progressive schedule: expected {check.expected}, found {text!r}") from error


def stage_of_epoch(stages: tuple[Stage, ...], epoch: int) -> Stage:
    """The stage that an epoch (counted from 0) belongs to."""
    return [stage for stage in stages if stage.epoch <= epoch][-1]


def scaled_learning_rate(base: float, batch_size: int) -> float:
    """`base` x `batch_size` / 256, with the batch of all GPUs together. A helper: the trainer rescales nothing."""
    return base * batch_size / _BASE_BATCH


def weight_decay_groups(model: nn.Module, weight_decay: float, no_bn_weight_decay: bool) -> list[dict[str, Any]]:
    """Parameters for an optimizer: with `no_bn_weight_decay` norms and biases are in a group without weight decay."""
    return parameter_groups(model, weight_decay, "norms_and_biases" if no_bn_weight_decay else "nothing")
