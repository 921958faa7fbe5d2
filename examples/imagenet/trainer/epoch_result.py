"""What came of an epoch: in numbers, in a line of the log, in lines that are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .errors import TrainingError
from .progress import EpochProgress
from .schedule import EpochSizes
from .step_clock import StepTimes
from .validation import Scores

__all__ = ["EpochResult", "demand_finite", "entry_of_scores"]


@dataclass(frozen=True)
class EpochResult:
    """What came of one epoch of training.

    Attributes:
        loss: mean over all images of all ranks.
        steps: steps made.
        complete: whether these were all the epoch's steps (`training.max_steps` may stop it).
        images_per_second: of all ranks, without each process's first step (which compiles and fills caches).
        seconds: time it took.
        times: where the first rank's time went.
    """

    loss: float
    steps: int
    complete: bool
    images_per_second: float
    seconds: float
    times: StepTimes = field(default_factory=StepTimes)

    @classmethod
    def of(cls, progress: EpochProgress, complete: bool) -> EpochResult:
        """That of an epoch that has come so far.

        Raises:
            TrainingError: its loss is no number.
        """
        demand_finite(progress.epoch, progress.loss)
        times = StepTimes(progress.load_seconds, progress.copy_seconds, progress.compute_seconds)
        return cls(progress.loss, progress.steps, complete, progress.images_per_second, progress.seconds, times)

    def entry(self, epoch: int, sizes: EpochSizes) -> dict[str, Any]:
        """Its part of the log's line."""
        return {
            "epoch": epoch,
            "train_loss": self.loss,
            "train_time": self.seconds,
            "load_time": self.times.load,
            "copy_time": self.times.copy,
            "compute_time": self.times.compute,
            "images_per_second": self.images_per_second,
            "resolution": sizes.side,
            "batch_size": sizes.batch_size,
            "steps": self.steps,
        }

    def shown(self, scores: Scores) -> str:
        """What a line says of it and of its evaluation."""
        return (
            f"loss {self.loss:.3f}  top-1 {scores.top_1:.2%}  top-5 {scores.top_5:.2%}  "
            f"{self.images_per_second:,.0f} images/s"
        )

    def shown_times(self) -> str:
        """A line about where its time went."""
        return (
            f"  load {self.times.load:.3f} s  copy {self.times.copy:.3f} s  compute {self.times.compute:.3f} s  "
            f"of {self.seconds:.3f} s of training"
        )


def entry_of_scores(scores: Scores, rate: float) -> dict[str, float]:
    """The part of the log's line that an evaluation has, at this learning rate."""
    raw = {} if scores.raw_top_1 is None else {"raw_top_1": scores.raw_top_1}
    return {
        **raw,
        "current_lr": rate,
        "top_1": scores.top_1,
        "top_5": scores.top_5,
        "val_loss": scores.loss,
        "val_time": scores.seconds,
    }


def demand_finite(epoch: int, loss: float) -> None:
    """Check an epoch's loss.

    Raises:
        TrainingError: it is no number.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"epoch {epoch + 1}: the mean loss is {loss}: try a lower --lr.lr, or --training.precision=fp32"
        )
