"""When all ranks stop, or write a checkpoint: at the same step, whichever of them was asked.

A signal may reach one rank alone, and clocks differ. So the ranks compare what they know in a tiny all-reduce, about
once a second: the slowest rank's step decides after how many steps the next one comes, and since all of them see the
same result, all of them wait for it at the same step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from .distributed import Ranks, maximum_over_ranks
from .signals import StopRequest

__all__ = ["VOTE_SECONDS", "Agreement", "Decision", "StopAgreed"]

VOTE_SECONDS = 1.0


class StopAgreed(Exception):
    """All ranks stop here. Caught by the trainer, which makes an error for the user of it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@dataclass(frozen=True)
class Decision:
    """What all ranks do after a step.

    Attributes:
        stop: the signal for which they stop; 0: they do not.
        save: write a checkpoint, because it is time.
    """

    stop: int = 0
    save: bool = False


class Agreement:
    """Asked by every rank after every step; answers the same to all of them.

    Args:
        stop: whether this process was asked to end.
        ranks: this process among the others.
        device: on which the ranks exchange numbers.
        checkpoint_minutes: between checkpoints, by the first rank's clock; 0: none by time.
    """

    def __init__(self, stop: StopRequest, ranks: Ranks, device: torch.device, checkpoint_minutes: float) -> None:
        self._stop, self._ranks, self._device = stop, ranks, device
        self._seconds_between = checkpoint_minutes * 60
        self.saved()
        self.begin()

    def saved(self) -> None:
        """A checkpoint was written now."""
        self._saved_at = time.monotonic()

    def begin(self) -> None:
        """Steps of another kind begin, whose length nobody knows."""
        self._interval, self._steps = 1, 0
        self._counted_from = time.monotonic()

    def after_step(self) -> Decision:
        """What to do after this step."""
        self._steps += 1
        if self._ranks.world > 1 and self._steps < self._interval:
            return Decision()
        now = time.monotonic()
        due = self._ranks.is_main and 0 < self._seconds_between <= now - self._saved_at
        if self._ranks.world == 1:
            return Decision(self._stop.number, due)
        mine = [self._stop.number, due, (now - self._counted_from) / self._steps]
        wishes = torch.tensor(mine, dtype=torch.float64, device=self._device)
        stop, save, step_seconds = maximum_over_ranks(wishes).tolist()
        # At most twice as many as before: what a first step took says little of the next.
        self._interval = max(1, min(int(VOTE_SECONDS / max(step_seconds, 1e-9)), 2 * self._interval))
        self._steps, self._counted_from = 0, time.monotonic()
        return Decision(int(stop), bool(save))
