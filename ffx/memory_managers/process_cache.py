"""Pages read ahead into memory of our own: for files that are larger than RAM, or slow to map.

The pages that each batch needs are known before the epoch begins, so the schedule is fixed: a page is
read once, `AHEAD` batches before it is first needed, into a slot that nobody needs at that time, and
its slot serves again once the last batch that needs it, and all that were under way with it, are done.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np

from ..errors import LoaderError
from ..kernels import step
from ..kernels.compiling import compiled
from .base import MemoryContext, MemoryManager, check_length, open_again

__all__ = ["PageSchedule", "ProcessCacheManager", "schedule_pages"]

AHEAD = 3
READERS = 4
# The slot of pages that an epoch does not read: beyond any memory, so their blobs are refused.
NO_SLOT = 0xFFFFFFFF


@compiled
def read_page(address, state):
    """The blob at `address`, as a view of the page cache; empty if there is none."""
    memory, pointers, sizes, page_to_slot = state
    slots, page_size = memory.shape
    nothing = memory.reshape(-1)[0:0]
    # numba turns an int64 and a uint64 together into a float64, so all of it is int64.
    address = np.int64(address)
    row = np.searchsorted(pointers, np.uint64(address), side="right") - 1
    if row < 0 or np.int64(pointers[row]) != address or page_size == 0:
        return nothing
    page, offset, size = address // page_size, address % page_size, np.int64(sizes[row])
    if page < 0 or page >= page_to_slot.size or size < 0 or size > page_size - offset:
        return nothing
    slot = np.int64(page_to_slot[page])
    if slot >= slots:
        return nothing
    return memory[slot, offset : offset + size]


@dataclass(frozen=True)
class PageSchedule:
    """When each page is read, and where to.

    Attributes:
        slots: pages that are in memory at once.
        slot_of: the slot of each page that the epoch needs.
        read_at: pages to be read when batch `b` starts.
        needed_at: pages that batch `b` is the first to need.
    """

    slots: int
    slot_of: dict[int, int]
    read_at: list[list[int]]
    needed_at: list[list[int]]


def schedule_pages(pages_of_batches: Sequence[np.ndarray], in_flight: int, ahead: int = AHEAD) -> PageSchedule:
    """Plan an epoch's reads.

    Args:
        pages_of_batches: the pages that each batch needs.
        in_flight: batches that are under way at once: batch `b` starts when `b - in_flight` is done.
        ahead: how many batches before it is needed a page is read.
    """
    count = len(pages_of_batches)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for batch, pages in enumerate(pages_of_batches):
        for page in pages.tolist():
            first.setdefault(page, batch)
            last[page] = batch
    read_at: list[list[int]] = [[] for _ in range(count)]
    needed_at: list[list[int]] = [[] for _ in range(count)]
    freed_at: list[list[int]] = [[] for _ in range(count + 1)]
    for page, batch in first.items():
        read_at[max(0, batch - ahead)].append(page)
        needed_at[batch].append(page)
        freed_at[min(count, last[page] + in_flight)].append(page)
    free: list[int] = []
    slot_of: dict[int, int] = {}
    slots = 0
    for batch in range(count):
        free.extend(slot_of[page] for page in freed_at[batch])
        for page in read_at[batch]:
            if not free:
                free.append(slots)
                slots += 1
            slot_of[page] = free.pop()
    return PageSchedule(slots, slot_of, read_at, needed_at)


class ProcessCacheContext(MemoryContext):
    """An epoch over pages: reader threads follow the schedule."""

    def __init__(self, manager: ProcessCacheManager, batches: Sequence[np.ndarray], in_flight: int) -> None:
        self.manager = manager
        self.schedule = schedule_pages([manager.pages_of(batch) for batch in batches], in_flight)
        self._arrived: dict[int, BaseException | None] = {}
        self._news = threading.Condition()
        self._requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._memory = np.empty((0, 0), dtype=np.uint8)
        self._page_to_slot = np.empty(0, dtype=np.uint32)
        self._closed = False

    @property
    def state(self) -> tuple:
        """`(uint8[slots, page], uint64[rows] pointers, uint64[rows] sizes, uint32[pages] slot of each)`"""
        return self._memory, self.manager.ptrs, self.manager.sizes, self._page_to_slot

    def storage_words(self) -> np.ndarray:
        """Addresses in the page cache."""
        words = np.zeros(step.STORAGE_WORDS, dtype=np.int64)
        words[step.BASE], words[step.SIZE] = self._memory.ctypes.data, self._memory.size
        words[step.POINTERS], words[step.SIZES] = self.manager.ptrs.ctypes.data, self.manager.sizes.ctypes.data
        words[step.ROWS] = len(self.manager.ptrs)
        words[step.PAGE_SHIFT] = self.manager.page_shift
        words[step.PAGE_TO_SLOT], words[step.PAGES] = self._page_to_slot.ctypes.data, len(self._page_to_slot)
        return words

    def __enter__(self) -> ProcessCacheContext:
        page_bytes = int(self.manager.reader.page_size)
        self._memory = np.empty((max(self.schedule.slots, 1), page_bytes), dtype=np.uint8)
        self._page_to_slot = np.full(max(self.schedule.slot_of, default=-1) + 1, NO_SLOT, dtype=np.uint32)
        for page, slot in self.schedule.slot_of.items():
            self._page_to_slot[page] = slot
        self._file = open_again(self.manager.reader)
        readers = min(READERS, max(len(self.schedule.slot_of), 1))
        self._threads = [
            threading.Thread(target=self._read, name="ffx-page-reader", daemon=True) for _ in range(readers)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def start_batch(self, batch: int) -> None:
        """Ask for the pages of batches to come, and wait for those of this one.

        Raises:
            LoaderError: when a page could not be read; the cause says why.
        """
        # Pages are read, but the metadata are mapped.
        check_length(self.manager.reader)
        for page in self.schedule.read_at[batch]:
            self._requests.put(page)
        needed = self.schedule.needed_at[batch]
        with self._news:
            self._news.wait_for(lambda: self._closed or all(page in self._arrived for page in needed))
            if self._closed:
                raise LoaderError("the storage was closed while a batch waited for its pages")
            errors = [self._arrived[page] for page in needed if self._arrived[page] is not None]
        if errors:
            raise LoaderError(f"{self.manager.reader.file_name}: {errors[0]}") from errors[0]

    def _read(self) -> None:
        while (page := self._requests.get()) is not None:
            error: BaseException | None = None
            try:
                self._fill(page, memoryview(self._memory[self.schedule.slot_of[page]]))
            except Exception as problem:  # Whoever waits for the page would wait for ever.
                error = problem
            with self._news:
                self._arrived[page] = error
                self._news.notify_all()

    def _fill(self, page: int, target: memoryview) -> None:
        start = page * len(target)
        target = target[: self.manager.data_end - start]
        done = 0
        while done < len(target) and not self._closed:
            count = os.preadv(self._file.fileno(), [target[done:]], start + done)
            if count == 0:
                raise LoaderError(
                    f"expected {len(target)} bytes of page {page} at {start}, found the file's end after {done}: "
                    "it was shortened while it was read"
                )
            done += count

    def close(self) -> None:
        """Stop the readers; safe to call twice."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._file.close()

    def release(self) -> None:
        """Free the memory of the pages."""
        self._memory = np.empty((0, 0), dtype=np.uint8)


class ProcessCacheManager(MemoryManager):
    """Reads the pages that each batch needs, ahead of time, and no page twice an epoch if order allows."""

    @functools.cached_property
    def data_end(self) -> int:
        """Offset after the last blob; the last page need not be whole."""
        return int((self.ptrs + self.sizes)[self.sizes > 0].max(initial=0))

    def pages_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """The pages, each once, that some samples have data on."""
        starts, pages = self._page_index
        rows = sample_ids.astype(np.int64)
        lengths = starts[rows + 1] - starts[rows]
        ends = np.cumsum(lengths)
        # The numbers starts[row] to starts[row + 1] - 1 of every sample, as one array.
        return np.unique(pages[np.repeat(starts[rows + 1] - ends, lengths) + np.arange(lengths.sum())])

    @functools.cached_property
    def _page_index(self) -> tuple[np.ndarray, np.ndarray]:
        """The pages of sample `i` are `pages[starts[i]:starts[i + 1]]`."""
        table = self.reader.alloc_table
        stored = table["size"] > 0
        samples = table["sample_id"][stored].astype(np.int64)
        order = np.argsort(samples, kind="stable")
        pages = (table["ptr"][stored] >> np.uint64(self.page_shift)).astype(np.int64)[order]
        return np.searchsorted(samples[order], np.arange(int(self.reader.num_samples) + 1)), pages

    def schedule_epoch(self, batches: Sequence[np.ndarray], in_flight: int = 1) -> ProcessCacheContext:
        """Plan the epoch's reads; entering the context starts them."""
        return ProcessCacheContext(self, batches, in_flight)

    def compile_reader(self) -> Callable:
        """`read_page`."""
        return read_page

    @property
    def state_type(self):
        """Type of `(memory, pointers, sizes, page_to_slot)`."""
        return numba.types.Tuple([numba.uint8[:, ::1], numba.uint64[::1], numba.uint64[::1], numba.uint32[::1]])
