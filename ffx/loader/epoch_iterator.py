"""The consumer's end of one epoch: batches in order, errors where they belong, nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LoaderError
from ..kernels.step import STORAGE_WORDS
from .device import link_to
from .engine import Engine
from .production import Batch, Production, Source
from .slots import Slot, layout_of

if TYPE_CHECKING:
    from .loader import Loader

__all__ = ["EpochIterator", "QUASIRANDOM_ERROR_MSG"]

QUASIRANDOM_ERROR_MSG = (
    "there is not enough memory for the pages that this order needs at once: "
    "use order=OrderOption.QUASI_RANDOM, which reads few pages at a time, or os_cache=True"
)


class EpochIterator:
    """Iterates over one epoch of a loader; made by `iter(loader)`.

    It may be left at any point: `close()` (also called by `with`, at the end of the epoch, after an
    error, and when the iterator is forgotten) ends its threads and gives its memory back.

    Args:
        loader: what is iterated.
        order: the samples' indices, in order.
    """

    def __init__(self, loader: Loader, order: Sequence[int] | np.ndarray) -> None:
        self._production: Production | None = None
        self._unreleased: list[Slot] = []
        self.closed = False
        self.loader = loader
        epoch = loader.next_epoch - 1
        sample_ids = _checked(order, len(loader.reader.metadata))
        batches = _cut(sample_ids, loader.batch_size)
        occurrences = loader.occurrences(sample_ids)
        schedule = loader.plan.schedule(loader.seed, epoch)
        self._link = link_to(schedule.device)
        self._layout = layout_of(schedule, loader.batch_size, self._link.pinned)
        count = loader.batches_ahead + 2
        self._slots = loader.slot_pool.take(self._layout, count)
        while len(self._slots) < count:
            self._slots.append(Slot(schedule, loader.batch_size, self._link.pinned))
        self._context = loader.schedule_epoch(batches, in_flight=count)
        try:
            self._context.__enter__()
        except MemoryError as error:
            raise LoaderError(f"{loader.fname}: {QUASIRANDOM_ERROR_MSG}") from error
        # The front and, for each native step of the tail, one more round of tasks, for every slot.
        capacity = 2 * count * loader.batch_size * (1 + len(schedule.tail))
        source = Source(
            loader.fname,
            loader.reader.metadata,
            loader.field_name_to_f_ix,
            self._context,
            self._storage_address(),
        )
        self._production = Production(
            loader.plan,
            schedule,
            source,
            batches,
            None if occurrences is None else _cut(occurrences, loader.batch_size),
            self._slots,
            Engine(loader.num_workers, capacity),
            self._link,
        )

    def _storage_address(self) -> int:
        """Address of the storage's words; 0 for a storage that only FFCV's `memory_read` can read."""
        words = getattr(self._context, "storage_words", None)
        if words is None:
            return 0
        self._storage_words = np.ascontiguousarray(words(), dtype=np.int64)
        assert len(self._storage_words) == STORAGE_WORDS
        return self._storage_words.ctypes.data

    def __iter__(self) -> EpochIterator:
        return self

    def __next__(self) -> tuple:
        """The next batch: a tuple with each pipeline's result.

        Raises:
            StopIteration: at the epoch's end.
            LoaderError: when a batch could not be made; the epoch ends there.
        """
        if self.closed:
            raise StopIteration
        # The consumer's loop variables still hold the last batch; the one before it is history.
        while len(self._unreleased) > 1:
            self._production.release(self._unreleased.pop(0))
        batch = self._production.finished.get()
        if batch is None:
            self.close()
            raise StopIteration
        return self._deliver(batch)

    def _deliver(self, batch: Batch) -> tuple:
        if batch.error is not None:
            self.close()
            raise batch.error
        self._link.receive(batch.slot, batch.results)
        self._unreleased.append(batch.slot)
        return batch.results

    def close(self) -> None:
        """End the epoch here. Safe to call twice, and from `__del__`."""
        if self.closed:
            return
        self.closed = True
        if self._production is not None:
            self._production.close()
            for slot in self._unreleased:
                self._link.release(slot)
            self._context.__exit__(None, None, None)
            self.loader.slot_pool.give_back(self._layout, self._slots)
        self._slots = []
        self._unreleased = []

    def __enter__(self) -> EpochIterator:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close()


def _checked(order: Sequence[int] | np.ndarray, samples: int) -> np.ndarray:
    """An order as `uint64`; kernels take its indices at their word."""
    found = np.asarray(order)
    if found.size and (int(found.min()) < 0 or int(found.max()) >= samples):
        raise LoaderError(
            f"expected an order of sample indices from 0 to {samples - 1}, found {found.min()} to {found.max()}"
        )
    return np.ascontiguousarray(found, dtype=np.uint64)


def _cut(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[first : first + size] for first in range(0, len(values), size)]
