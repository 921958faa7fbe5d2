"""The optimizer, and the course of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import checkout  # noqa: F401
import numpy as np
import torch
from torch import nn
from trainer import optimizers
from trainer.optimizers import parameter_groups, set_rate
from trainer.schedule import epoch_learning_rates

if TYPE_CHECKING:
    from config import TrainingConfig

__all__ = ["learning_rates", "make_optimizer", "parameter_groups", "set_rate"]


def make_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW for a network, with the weight decay of each parameter."""
    options = config.to_trainer_config()
    return optimizers.make_optimizer(options.training, model, options.lr.lr)


def learning_rates(config: TrainingConfig, steps_by_epoch: Sequence[int]) -> np.ndarray:
    """The learning rate of every step of a training: `float64[sum(steps_by_epoch)]`."""
    rates = config.to_trainer_config().lr
    epochs = [epoch_learning_rates(rates, steps_by_epoch, epoch, steps) for epoch, steps in enumerate(steps_by_epoch)]
    return np.concatenate(epochs)
