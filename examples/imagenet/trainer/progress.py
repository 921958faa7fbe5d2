"""How far an epoch has come, as a checkpoint keeps it, and the sums and clocks of a process that trains a part of it.

An epoch may be trained by several processes one after the other, and by another number of ranks after each break. Its
line in the log is made from what all of them did.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from .distributed import Ranks, sum_over_ranks
from .errors import CheckpointError
from .step_clock import StepClock

__all__ = ["EpochProgress", "EpochRun"]


@dataclass(frozen=True)
class EpochProgress:
    """How far an epoch has come.

    Attributes:
        epoch: counted from 0.
        steps: that were made.
        images: that all ranks together took.
        leg_steps, leg_images: the same at the moment from which the ranks and their batches are what they are now.
        loss_sums: the loss, summed over images, of each rank.
        seconds: that training took.
        timed_images, timed_seconds: the same without each process's first step, which compiles and fills caches.
        load_seconds, copy_seconds, compute_seconds: where the first rank's time went (`step_clock`).
    """

    epoch: int
    steps: int = 0
    images: int = 0
    leg_steps: int = 0
    leg_images: int = 0
    loss_sums: tuple[float, ...] = ()
    seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    load_seconds: float = 0.0
    copy_seconds: float = 0.0
    compute_seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean over all images."""
        return sum(self.loss_sums) / max(self.images, 1)

    @property
    def images_per_second(self) -> float:
        """Of all ranks together."""
        return self.timed_images / max(self.timed_seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint."""
        return {**asdict(self), "loss_sums": list(self.loss_sums)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochProgress:
        """The opposite of `as_dict`.

        Raises:
            CheckpointError: these are other values.
        """
        try:
            return cls(**{**values, "loss_sums": tuple(values["loss_sums"])})
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the checkpoint's place in its epoch is no such place: {error}") from error

    def with_other_ranks(self, world: int) -> EpochProgress:
        """The same place, from which other ranks, or other batches, go on."""
        sums = (sum(self.loss_sums), *[0.0] * (world - 1))
        return replace(self, leg_steps=self.steps, leg_images=self.images, loss_sums=sums)


class EpochRun:
    """What one process adds to an epoch.

    Args:
        start: where it begins.
        ranks: this process among the others.
        batch_size: images a step and rank.
        device: of the losses.
        clock: of the steps; begins at 0.
    """

    def __init__(
        self, start: EpochProgress, ranks: Ranks, batch_size: int, device: torch.device, clock: StepClock
    ) -> None:
        self.steps = 0
        self._start, self._ranks, self._batch_size, self._device = start, ranks, batch_size, device
        first = start.loss_sums[ranks.rank] if start.loss_sums else 0.0
        self._loss_sum = torch.tensor(first, dtype=torch.float64, device=device)
        self._clock = clock
        clock.restart()
        self._began = time.perf_counter()
        self._second_step = self._began

    def add(self, loss: torch.Tensor) -> None:
        """A step was made whose mean loss is `loss`."""
        self._loss_sum.add_(loss, alpha=self._batch_size)
        self.steps += 1
        if self.steps == 1:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._second_step = time.perf_counter()

    def progress(self) -> EpochProgress:
        """How far the epoch has come. All ranks call this together."""
        start, ranks, times = self._start, self._ranks, self._clock.times
        sums = torch.zeros(ranks.world, dtype=torch.float64, device=self._device)
        sums[ranks.rank] = self._loss_sum
        # Reading the values waits for the GPU.
        loss_sums = tuple(sum_over_ranks(sums).tolist())
        now = time.perf_counter()
        images_a_step = self._batch_size * ranks.world
        return replace(
            start,
            steps=start.steps + self.steps,
            images=start.images + self.steps * images_a_step,
            loss_sums=loss_sums,
            seconds=start.seconds + now - self._began,
            timed_images=start.timed_images + max(self.steps - 1, 0) * images_a_step,
            timed_seconds=start.timed_seconds + (now - self._second_step if self.steps else 0.0),
            load_seconds=start.load_seconds + times.load,
            copy_seconds=start.copy_seconds + times.copy,
            compute_seconds=start.compute_seconds + times.compute,
        )
