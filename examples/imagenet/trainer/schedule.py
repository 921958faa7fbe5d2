"""Learning rate, resolution and batch size as functions of the epoch.

FFCV's schedules (`cyclic`, `step`) give a rate for each epoch's beginning; inside an epoch the rate goes linearly from
its beginning to the next one's. So a `step` is a ramp over the epoch before it, and the last epoch ends at 0. Torch's
(`multistep`, `cosine`) have one rate an epoch, and its `onecycle` one a step.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config import LearningRateConfig, ResolutionConfig, RunConfig
from .values import stages_of

__all__ = ["EpochSizes", "epoch_learning_rates", "learning_rate", "resolution_of_epoch", "sizes_of_epoch"]

# The cyclic schedule begins at this share of its peak.
_FIRST_SHARE = 1e-4
# Images between the first and the last resolution have sides of a multiple of this, as networks halve five times.
_RESOLUTION_STEP = 32


def learning_rate(config: LearningRateConfig, epochs: int, epoch: float) -> float:
    """The rate at the beginning of `epoch` (0 to `epochs`), of all schedules but `onecycle`; without the warm-up."""
    kind = config.lr_schedule_type
    if kind == "multistep":
        milestones = [int(milestone) for milestone in config.milestones.split(",")]
        return config.lr * config.step_ratio ** bisect_right(milestones, epoch)
    if kind == "cosine":
        return _cosine(config.lr, config.final_lr, epoch / epochs)
    if kind == "step":
        return 0.0 if epoch >= epochs else config.lr * config.step_ratio ** (epoch // config.step_length)
    return _cyclic(config.lr, config.lr_peak_epoch, epochs, epoch)


def _cosine(first: float, last: float, share: float) -> float:
    """Half a period of a cosine from one value to the other."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


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
    config: LearningRateConfig, steps_by_epoch: Sequence[int], epoch: int, steps: int, done: float = 0.0
) -> np.ndarray:
    """The rate of each of an epoch's steps, or of those behind the share of it that is done.

    Args:
        config: the schedule.
        steps_by_epoch: steps of each epoch of the training.
        epoch: counted from 0.
        steps: how many are wanted: all of the epoch, or what is left of it.
        done: share of the epoch's images that came before.

    Returns:
        `float64[steps]`.
    """
    epochs, kind = len(steps_by_epoch), config.lr_schedule_type
    # Where each step begins, as a share of the epoch.
    shares = done + (1 - done) * np.arange(steps) / max(steps, 1)
    if kind == "onecycle":
        before = sum(steps_by_epoch[:epoch])
        return _one_cycle(config, before + shares * steps_by_epoch[epoch], sum(steps_by_epoch))
    first = learning_rate(config, epochs, epoch)
    if kind in ("multistep", "cosine"):
        rates = np.full(steps, first)
    else:
        rates = np.interp(
            np.arange(steps), [-steps * done / (1 - done), steps], [first, learning_rate(config, epochs, epoch + 1)]
        )
    if config.warmup_epochs:
        rates = rates * np.minimum(1, (epoch + shares) / config.warmup_epochs)
    return rates


def _one_cycle(config: LearningRateConfig, steps: np.ndarray, total: int) -> np.ndarray:
    """Half a cosine from 0 to the highest rate at `pct_start` of all steps, another down to `final_lr`.

    Source: Smith, "A disciplined approach to neural network hyper-parameters", 2018, in the form and with the step
    numbers of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    peak, last = max(config.pct_start * total - 1, 0.0), max(total - 1, 1)
    return np.array(
        [
            _cosine(0.0, config.lr, step / peak)
            if step < peak
            else _cosine(config.lr, config.final_lr, min((step - peak) / max(last - peak, 1e-9), 1.0))
            for step in steps.tolist()
        ]
    )


@dataclass(frozen=True)
class EpochSizes:
    """Side of the images in pixels, and images a batch and rank."""

    side: int
    batch_size: int


def sizes_of_epoch(resolution: ResolutionConfig, training: RunConfig, epoch: int) -> EpochSizes:
    """What the images and batches of an epoch are, by `resolution.schedule` or else by the ramp."""
    begun = [stage for stage in stages_of(resolution.schedule) if stage.epoch <= epoch]
    if not begun:
        return EpochSizes(resolution_of_epoch(resolution, epoch), training.batch_size)
    return EpochSizes(begun[-1].side, begun[-1].batch_size or training.batch_size)


def resolution_of_epoch(config: ResolutionConfig, epoch: int) -> int:
    """Side of the training images in pixels, by the ramp.

    `min_res` up to `start_ramp`, `max_res` from `end_ramp`; between, the line from one to the other, rounded to a
    multiple of 32.
    """
    if epoch <= config.start_ramp:
        return config.min_res
    if epoch >= config.end_ramp:
        return config.max_res
    side = np.interp(epoch, [config.start_ramp, config.end_ramp], [config.min_res, config.max_res])
    return max(1, round(side / _RESOLUTION_STEP)) * _RESOLUTION_STEP
