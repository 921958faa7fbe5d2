"""The consumer's end of one epoch: batches in order, errors where they belong, nothing left behind."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LoaderError
from .engine import FORKED, Engine
from .production import Batch, Production
from .progress import Tracker
from .slots import Slot, SlotPool, layout_of
from .tail import Source

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
        occurrences: how often each came before in the epoch, `uint32`; `None`: never.
        epoch: which; `None`: the one that the loader has begun last.
        first_batch: the number of the first batch here in the whole epoch, for messages.
        tracker: told how far the consumer has come.
    """

    def __init__(
        self,
        loader: Loader,
        order: Sequence[int] | np.ndarray,
        occurrences: np.ndarray | None = None,
        epoch: int | None = None,
        first_batch: int = 0,
        tracker: Tracker | None = None,
    ) -> None:
        self.loader = loader
        self._batch_size = size = loader.batch_size
        self._unreleased: list[Slot] = []
        self._process = os.getpid()
        self._tracker = tracker
        epoch = loader.next_epoch - 1 if epoch is None else epoch
        schedule = loader.plan.schedule(loader.seed, epoch)
        self._link = loader.link(schedule.device)
        sample_ids = _checked(order, len(loader.reader.metadata))
        batches = _cut(sample_ids, size)
        count = loader.batches_ahead + 2
        layout = layout_of(schedule, size, self._link.pinned)
        slots = loader.slot_pool.take(layout, count)
        while len(slots) < count:
            slots.append(Slot(schedule, size, self._link.pinned))
        self._link.take_over()
        with ExitStack() as undoing:
            try:
                context = undoing.enter_context(loader.memory_manager.schedule_epoch(batches, in_flight=count))
            except MemoryError as error:
                raise LoaderError(f"{loader.fname}: {QUASIRANDOM_ERROR_MSG}") from error
            source = Source(
                loader.reader,
                loader.field_name_to_f_ix,
                context,
                context.storage_words(),
                loader.keep_on_devices(schedule),
                loader.verification.step,
            )
            mending = loader.mending(schedule, source.check is not None, epoch, first_batch, context)
            # The front and, for each native step of the tail, one more round of tasks, for every slot.
            capacity = 2 * count * size * (1 + len(schedule.tail))
            engine = Engine(loader.num_workers, capacity)
            undoing.callback(engine.release)
            undoing.callback(engine.close)
            cut = None if occurrences is None else _cut(occurrences, size)
            self._production = Production(
                loader.plan, schedule, source, batches, cut, slots, engine, self._link, mending
            )
            undoing.pop_all()
        # Not `__del__`: at the interpreter's exit that comes after threads have been stopped in mid-step.
        self._shut = weakref.finalize(self, _shut, self._production, self._unreleased, loader.slot_pool, layout, slots)

    @property
    def closed(self) -> bool:
        """Whether the epoch has ended here."""
        return not self._shut.alive

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
        if os.getpid() != self._process:
            raise LoaderError(f"{self.loader.fname}: {FORKED}")
        # The consumer's loop variables still hold the last batch; the one before it is history.
        while len(self._unreleased) > 1:
            self._production.release(self._unreleased.pop(0))
        batch = self._production.finished.get()
        if self._tracker is not None:
            # A batch that is made again has been noted before.
            self.loader.culprits.extend(batch.culprits)
        if batch.error is not None:
            self.close()
            raise batch.error
        if batch.slot is None:
            self.close()
            if self._tracker is not None:
                self._tracker.ended()
            raise StopIteration
        return self._deliver(batch, batch.slot)

    def _deliver(self, batch: Batch, slot: Slot) -> tuple:
        self._link.receive(slot, batch.results)
        self._unreleased.append(slot)
        if self._tracker is not None:
            # Not fewer for a short last batch: ranks of which some have a sample more say the same.
            self._tracker.took((batch.number + 1) * self._batch_size)
        return batch.results

    def close(self) -> None:
        """End the epoch here. Safe to call twice; also done when the iterator is forgotten."""
        self._shut()

    def __enter__(self) -> EpochIterator:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _shut(production: Production, unreleased: list[Slot], pool: SlotPool, layout: tuple, slots: list[Slot]) -> None:
    """End an epoch; knows nothing of its iterator, so that this can be forgotten."""
    production.close()
    unreleased.clear()
    pool.give_back(layout, slots)


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
