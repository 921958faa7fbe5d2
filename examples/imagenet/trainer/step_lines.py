"""Lines about steps of the training: times, loss and accuracy of its batches, newest and mean.

In the form that PyTorch's ImageNet example made usual, so that what reads its output reads this: the newest value, and
in brackets the mean since this process began the epoch. Means are summed on the device and read for a line only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from .step_clock import StepClock

__all__ = ["StepLines", "accuracy_line"]

_BEST = (1, 5)


def accuracy_line(top_1: float, top_5: float) -> str:
    """The line behind a validation, of shares."""
    return f" * Acc@1 {100 * top_1:.3f} Acc@5 {100 * top_5:.3f}"


class StepLines:
    """Shows a line for every so many steps of an epoch.

    Args:
        every: steps between lines; the first step has one.
        epoch: counted from 0.
        steps: of the whole epoch.
        clock: of the steps.
        say: shows a line.
    """

    def __init__(self, every: int, epoch: int, steps: int, clock: StepClock, say: Callable[[str], object]) -> None:
        self._every, self._clock, self._say = every, clock, say
        self._title, self._steps, self._width = f"Epoch: [{epoch}]", steps, len(str(steps))
        self._began = self._last = time.perf_counter()
        self._waited = 0.0
        self._count, self._images = 0, 0
        self._sums: torch.Tensor | None = None

    def add(self, step: int, loss: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """A step was made, the `step`th of its epoch (from 0), on a batch with these labels."""
        images = len(labels)
        among = outputs.topk(min(_BEST[-1], outputs.shape[1]), dim=1).indices == labels[:, None]
        newest = torch.stack([loss.double() * images, *(among[:, :best].sum().double() for best in _BEST)])
        self._sums = newest if self._sums is None else self._sums + newest
        self._count, self._images = self._count + 1, self._images + images
        now, waited = time.perf_counter(), self._clock.times.load + self._clock.times.copy
        if step % self._every == 0:
            self._show(step, now, waited, newest / images, self._sums / self._images)
        self._last, self._waited = now, waited

    def _show(self, step: int, now: float, waited: float, newest: torch.Tensor, means: torch.Tensor) -> None:
        (loss, *accuracy), (mean_loss, *mean_accuracy) = newest.tolist(), means.tolist()
        parts = [
            f"{self._title}[{step + 1:{self._width}}/{self._steps}]",
            f"Time {now - self._last:6.3f} ({(now - self._began) / self._count:6.3f})",
            f"Data {waited - self._waited:6.3f} ({waited / self._count:6.3f})",
            f"Loss {loss:.4e} ({mean_loss:.4e})",
            *(
                f"Acc@{best} {100 * share:6.2f} ({100 * mean:6.2f})"
                for best, share, mean in zip(_BEST, accuracy, mean_accuracy, strict=True)
            ),
        ]
        self._say("\t".join(parts))
