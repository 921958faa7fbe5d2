"""Learning rate and resolution as functions of the epoch, as FFCV's ImageNet example defines them.

A schedule gives a rate for each epoch's beginning; inside an epoch the rate goes linearly from its beginning to the
next one's. So a `step` is a ramp over the epoch before it, and the last epoch ends at 0.
"""

from __future__ import annotations

import numpy as np

from .config import LearningRateConfig, ResolutionConfig

__all__ = ["epoch_learning_rates", "learning_rate", "resolution_of_epoch"]

# The cyclic schedule begins at this share of its peak.
_FIRST_SHARE = 1e-4
# Images between the first and the last resolution have sides of a multiple of this, as networks halve five times.
_RESOLUTION_STEP = 32


def learning_rate(config: LearningRateConfig, epochs: int, epoch: float) -> float:
    """The rate at the beginning of `epoch` (0 to `epochs`)."""
    if config.lr_schedule_type == "step":
        return 0.0 if epoch >= epochs else config.lr * config.step_ratio ** (epoch // config.step_length)
    return _cyclic(config.lr, config.lr_peak_epoch, epochs, epoch)


def _cyclic(peak: float, peak_epoch: int, epochs: int, epoch: float) -> float:
    """Linear through (0, 1e-4 peak), (peak_epoch, peak) and (epochs, 0).

    A training that ends before its peak (a trial of one epoch) only rises.
    """
    first = _FIRST_SHARE * peak
    if peak_epoch == 0:
        return float(np.interp(epoch, [0, epochs], [peak, 0]))
    if peak_epoch > epochs:
        return float(np.interp(epoch, [0, peak_epoch], [first, peak]))
    return float(np.interp(epoch, [0, peak_epoch, epochs], [first, peak, 0]))


def epoch_learning_rates(
    config: LearningRateConfig, epochs: int, epoch: int, steps: int, done: float = 0.0
) -> np.ndarray:
    """The rate of each of an epoch's `steps`, or of those behind the share of it that is `done`: float64[steps]."""
    first, following = (learning_rate(config, epochs, edge) for edge in (epoch, epoch + 1))
    return np.interp(np.arange(steps), [-steps * done / (1 - done), steps], [first, following])


def resolution_of_epoch(config: ResolutionConfig, epoch: int) -> int:
    """Side of the training images in pixels.

    `min_res` up to `start_ramp`, `max_res` from `end_ramp`; between, the line from one to the other, rounded to a
    multiple of 32.
    """
    if epoch <= config.start_ramp:
        return config.min_res
    if epoch >= config.end_ramp:
        return config.max_res
    side = np.interp(epoch, [config.start_ramp, config.end_ramp], [config.min_res, config.max_res])
    return max(1, round(side / _RESOLUTION_STEP)) * _RESOLUTION_STEP
