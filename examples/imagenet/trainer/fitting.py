"""Whether a network takes the images of a training, found out before it begins and without computing anything."""

from __future__ import annotations

import copy

import torch
from torch import nn

from .config import TrainerConfig
from .errors import ConfigurationError
from .schedule import sizes_of_epoch

__all__ = ["demand_fitting_sizes"]


def demand_fitting_sizes(model: nn.Module, config: TrainerConfig) -> None:
    """Try every size of images and batches that a training will have, on torch's meta device.

    Some networks take images of one side alone, and a batch norm in training needs more than one number a channel.

    Raises:
        ConfigurationError: the network does not take one of them.
    """
    training = config.training
    tried = [] if training.eval_only else [(sizes.side, sizes.batch_size, True) for sizes in _all_sizes(config)]
    asked = config.validation
    tried += [(side, asked.batch_size, False) for side in (asked.resolution, asked.plain_resolution) if side]
    probe = copy.deepcopy(model).to("meta")
    for side, batch_size, trains in dict.fromkeys(tried):
        probe.train(trains)
        try:
            with torch.no_grad():
                probe(torch.empty(batch_size, 3, side, side, device="meta"))
        except NotImplementedError:
            # An operation that the meta device does not have says nothing of the images.
            return
        except Exception as error:
            raise ConfigurationError(
                f"model.arch={config.model.arch} does not take batches of {batch_size} images of {side} x {side} "
                f"pixels in {'training' if trains else 'validation'}: {error}"
            ) from error


def _all_sizes(config: TrainerConfig) -> list:
    return [sizes_of_epoch(config.resolution, config.training, epoch) for epoch in range(config.training.epochs)]
