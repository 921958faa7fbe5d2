"""Where the time of an epoch goes: waiting for data, copying them to the device, computing.

The clock stands around the batches, not in the training: what passes until a batch is there is loading (without
what the source says was copying), what passes until the next one is asked for is computing. A GPU computes and copies
behind the program's back; with `synchronised` the clock waits for it at each boundary, which takes time of its own.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import record_function

__all__ = ["StepClock", "StepTimes"]


@dataclass(frozen=True)
class StepTimes:
    """Seconds of loading, copying and computing."""

    load: float = 0.0
    copy: float = 0.0
    compute: float = 0.0

    def __add__(self, other: StepTimes) -> StepTimes:
        return StepTimes(self.load + other.load, self.copy + other.copy, self.compute + other.compute)


class StepClock:
    """Adds up the times of steps.

    Args:
        device: of the training.
        synchronised: wait for a GPU at each boundary, so that its work counts where it was asked for.
    """

    def __init__(self, device: torch.device | None = None, synchronised: bool = False) -> None:
        self._device = device
        self._waits = synchronised and device is not None and device.type == "cuda"
        self.restart()

    def restart(self) -> None:
        """Begin at 0."""
        self._done = StepTimes()
        self._computing_since: float | None = None

    @property
    def times(self) -> StepTimes:
        """What has passed since `restart`, in the middle of a step as well."""
        if self._computing_since is None:
            return self._done
        return self._done + StepTimes(compute=self._now() - self._computing_since)

    def batches(self, batches: Iterator[Any]) -> Generator[Any, None, None]:
        """The batches, and the times of getting them and of what is done with each."""
        while True:
            copied, start = self._done.copy, self._now()
            with record_function("load"):
                batch = next(batches, None)
            here = self._now()
            self._done += StepTimes(load=here - start - (self._done.copy - copied))
            if batch is None:
                return
            self._computing_since = here
            try:
                yield batch
                self._done = self.times
            finally:
                self._computing_since = None

    @contextmanager
    def copying(self) -> Iterator[None]:
        """What a source does in here is copying to the device."""
        start = self._now()
        with record_function("copy"):
            yield
        self._done += StepTimes(copy=self._now() - start)

    def _now(self) -> float:
        if self._waits:
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
