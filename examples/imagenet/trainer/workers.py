"""Batches by torch's `DataLoader`: its processes end with the batches, and an image that cannot be used is named.

Left alone, a worker that failed or was killed keeps its fellows alive: they take no signals (see
`_leave_signals_to_the_trainer`), and the program would wait for them for ever.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from .errors import DataError
from .signals import STOP_SIGNALS
from .source import Purpose

__all__ = ["load_batches"]


def load_batches(
    images: Any,
    name_of: Callable[[int], str],
    purpose: Purpose,
    batch_size: int,
    order: Iterable[int] | None = None,
    drop_last: bool = False,
) -> Generator[Any, None, None]:
    """The batches of a data set, loaded by `purpose.num_workers` processes (below 0: one for each usable core).

    Args:
        images: a data set in torch's sense: `images[index]` is a sample.
        name_of: what a message calls the sample of an index.
        purpose: number of processes and device.
        batch_size: samples of a batch.
        order: indices of the samples; `None`: all, as they come.
        drop_last: leave out a last batch that is not full.

    Raises:
        DataError: a sample cannot be read, or a process that loads was killed.
    """
    workers = _usable_cores() if purpose.num_workers < 0 else purpose.num_workers
    loader: DataLoader = DataLoader(
        _Named(images, name_of),
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        num_workers=workers,
        collate_fn=_collate,
        multiprocessing_context=_context(workers),
        pin_memory=purpose.device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_trainer,
        # Its own, or it would draw from the process's generator.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    # Not left to `__del__`: an error that is being reported keeps the iterator alive. At the latest when Python exits,
    # which would wait for the processes.
    end = Finalize(None, _end, (batches,), exitpriority=0)
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader worker"):
                    raise
                raise DataError(
                    f"a process that loads images was ended from outside (was there not enough memory?): {error}"
                ) from error
            if isinstance(batch, _Unreadable):
                raise DataError(batch.message)
            yield batch
    finally:
        end()


def _end(batches: Any) -> None:
    """End the processes of a `DataLoader`'s iterator, which does nothing itself while Python exits."""
    with suppress(OSError, RuntimeError):
        getattr(batches, "_shutdown_workers", int)()
    for worker in getattr(batches, "_workers", ()):
        with suppress(OSError, ValueError):
            worker.kill()


@dataclass(frozen=True)
class _Unreadable:
    """Stands for a sample that could not be read: an error from another process would come with its traceback."""

    message: str


class _Named(Dataset):
    def __init__(self, images: Any, name_of: Callable[[int], str]) -> None:
        self._images, self._name_of = images, name_of

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._images[index]
        except Exception as error:
            return _Unreadable(f"{self._name_of(index)}: cannot be read as an image: {type(error).__name__}: {error}")


def _collate(samples: list[Any]) -> Any:
    return next((sample for sample in samples if isinstance(sample, _Unreadable)), None) or default_collate(samples)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """A signal to all processes of a job must not end the workers before the checkpoint is written."""
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _context(workers: int) -> str | None:
    """How a `DataLoader` starts so many processes; `None`: as Python does, or there are none to start.

    A rank that was spawned would spawn its workers, and each of them would import torch, every epoch.
    """
    return "fork" if workers and sys.platform == "linux" else None


def _usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
