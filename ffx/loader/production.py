"""Makes the batches of one epoch: a feeder opens them, workers fill them, a finisher completes them.

```
feeder     waits for a free slot and for the batch's pages, publishes the samples   (thread)
workers    take samples through the front of the schedule                           (engine)
finisher   runs the tail in batch order: foreign operations, torch, copies          (thread)
consumer   takes finished batches, gives slots back                                 (epoch iterator)
```
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..pipeline.plan import Plan, Schedule
from .damage import Culprit, Mending
from .device import CudaLink, HostLink
from .engine import Engine
from .slots import Slot
from .tail import Source, Tail

__all__ = ["Batch", "Production"]


@dataclass
class Batch:
    """A finished batch, the error that took its place, or, with neither slot nor error, the end of the epoch.

    Attributes:
        slot: where it lies.
        results: what the consumer gets.
        error: what was raised.
        culprits: samples that were left out or replaced since the batch before.
        number: which batch of these it is.
    """

    slot: Slot | None
    results: tuple
    error: BaseException | None = None
    culprits: Sequence[Culprit] = ()
    number: int = 0


class Production:
    """One epoch in the making. `close` may be called at any moment, from any thread, and twice.

    Args:
        plan, schedule: what to do; the schedule is bound to this epoch.
        source: what to read.
        batches: sample indices of each batch, `uint64`, in order.
        occurrences: for each batch how often each sample came before; `None`: never.
        slots: memory; as many batches are under way at once.
        engine: the workers.
        link: the way to the device.
        mending: what is done with samples that cannot be used.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        source: Source,
        batches: Sequence[np.ndarray],
        occurrences: Sequence[np.ndarray] | None,
        slots: list[Slot],
        engine: Engine,
        link: HostLink | CudaLink,
        mending: Mending,
    ) -> None:
        self.finished: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self.engine = engine
        self.link = link
        self._schedule = schedule
        self._source = source
        self._tail = Tail(plan, schedule, source, engine)
        self._mending = mending
        self._batches = batches
        self._occurrences = occurrences
        # Whichever is free first: a batch that has no sample left gives its slot back before the ones ahead of it.
        self._free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._opened: queue.SimpleQueue[Slot | BaseException | None] = queue.SimpleQueue()
        self._closing = False
        self._feeder = threading.Thread(target=self._feed, name="ffx-feeder", daemon=True)
        self._finisher = threading.Thread(target=self._finish, name="ffx-finisher", daemon=True)
        try:
            self._feeder.start()
            self._finisher.start()
        except BaseException:
            self.close()
            raise

    def release(self, slot: Slot) -> None:
        """The consumer has gone on from the slot's batch."""
        self.link.release(slot)
        self._free.put(slot)

    def close(self) -> None:
        """End all threads; what is half made is dropped."""
        self._closing = True
        self._free.put(None)
        self._opened.put(None)
        self._source.context.close()
        self.engine.close()
        for thread in (self._feeder, self._finisher):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()
        # Now nobody looks at the pages any more, nor waits for the engine.
        self._source.context.release()
        self.engine.release()
        self.link.finish()

    def _feed(self) -> None:
        try:
            for number, sample_ids in enumerate(self._batches):
                slot = self._free.get()
                if self._closing or slot is None:
                    return
                self._open(slot, number, sample_ids)
                self._opened.put(slot)
            self._opened.put(None)
        except BaseException as error:
            self._opened.put(error)

    def _open(self, slot: Slot, number: int, sample_ids: np.ndarray) -> None:
        self.link.wait_until_free(slot)
        replaced = slot.reclaim()
        if replaced:
            self.link.take_over()
        if replaced or slot.schedule is not self._schedule:
            source = self._source
            slot.bind(self._schedule, source.metadata, source.indices, source.storage.ctypes.data, source.check)
        count = len(sample_ids)
        slot.failures[:count] = 0
        slot.sample_ids[:count] = sample_ids
        slot.occurrences[:count] = 0 if self._occurrences is None else self._occurrences[number]
        self._source.context.start_batch(number)
        self.engine.submit(slot.front, count)

    def _finish(self) -> None:
        # Also those of batches that had no sample left and so never reach the consumer.
        culprits: list[Culprit] = []
        try:
            for number, sample_ids in enumerate(self._batches):
                slot = self._opened.get()
                if self._closing or slot is None:
                    return
                if isinstance(slot, BaseException):
                    raise slot
                self.engine.wait(slot.front)
                known = len(culprits)
                count = self._mending.mend(slot, number, len(sample_ids), self.engine, culprits)
                if count == 0:
                    self._free.put(slot)
                    continue
                mended = len(culprits) > known
                with self.link.making(slot), self._mending.reading(slot, mended):
                    results = self._tail.results(slot, number, slot.sample_ids[:count].copy() if mended else sample_ids)
                self.finished.put(Batch(slot, results, None, culprits, number))
                culprits = []
                # Or this thread's own references would pass for the consumer's.
                del results
            self.finished.put(Batch(None, (), None, culprits))
        except BaseException as error:
            self.finished.put(Batch(None, (), error, culprits))
