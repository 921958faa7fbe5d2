"""Fetches blocks into a file's cached copy, several at a time, and each by one process of a machine only.

Who wants blocks pins them (they are not given up then), and claims those that nobody has or fetches yet. What a process
claimed that died in the meantime is claimed by the next one that waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import RemoteError
from .block_map import ABSENT
from .file import RemoteFile
from .lease import CLAIMED, PINNED, Lease

__all__ = ["Fetcher", "present"]

_log = logging.getLogger("ffx.remote")

# Neighbours are fetched by one request, up to so many bytes; a gap between them may be so large.
_MOST_BYTES_A_REQUEST = 8 << 20
_LARGEST_GAP_BYTES = 64 << 10
# Others say that they are done in memory that is shared, which nobody can wait for.
_LOOK_SECONDS = 0.02
_CLAIM_SECONDS = 0.1


class Fetcher:
    """Fetches for one epoch, or one other use. `close` it: what it pinned may be given up then.

    Args:
        file: open.
        on_damage: called with the samples whose bytes came with a wrong checksum twice; they are in the copy for this
            fetcher, and do not count as being there. `None`: whoever waits for them gets an error.
    """

    def __init__(self, file: RemoteFile, on_damage: Callable[[np.ndarray], object] | None = None) -> None:
        self._file = file
        self._on_damage = on_damage
        self._stopped = threading.Event()
        self._news = threading.Condition()
        self._queue: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pins = np.zeros(len(file.blocks), np.int32)
        self._claimed: set[int] = set()
        # Here though they do not count as being there; and what could not be fetched.
        self._damaged: set[int] = set()
        self._errors: dict[int, Exception] = {}
        with file.cache.lock():
            self._lease = Lease(file.path.parent, len(file.blocks))

    def admit(self, blocks: np.ndarray) -> None:
        """Pin blocks (as often as they stand there), and begin to fetch those that are missing, in their order."""
        with self._file.cache.lock():
            np.add.at(self._pins, blocks, 1)
            self._lease.marks[blocks] |= PINNED
            self._file.block_map.blocks["used"][blocks] = time.time_ns()
            self._claim(blocks)

    def unpin(self, blocks: np.ndarray) -> None:
        """Blocks that were admitted may be given up, as far as they were not admitted more often."""
        with self._file.cache.lock():
            np.subtract.at(self._pins, blocks, 1)
            self._lease.marks[blocks[self._pins[blocks] == 0]] &= ~np.uint8(PINNED)

    def wait(self, blocks: np.ndarray) -> None:
        """Until all of some admitted blocks are there.

        Raises:
            RemoteError: one cannot be fetched, or this was closed.
        """
        look_again = time.monotonic() + _CLAIM_SECONDS
        while len(missing := self._missing(blocks)):
            with self._news:
                error = next((self._errors[block] for block in missing.tolist() if block in self._errors), None)
                if error is not None:
                    raise error
                if self._stopped.is_set():
                    raise RemoteError(f"{self._file.address}: reading was stopped while a batch waited for its data")
                foreign = [block for block in missing.tolist() if block not in self._claimed]
                self._news.wait(_LOOK_SECONDS if foreign else 0.5)
            if foreign and time.monotonic() > look_again:
                with self._file.cache.lock():
                    self._claim(np.asarray(foreign))
                look_again = time.monotonic() + _CLAIM_SECONDS

    def bring(self, blocks: np.ndarray) -> None:
        """Have blocks there until this is closed."""
        self.admit(blocks)
        self.wait(blocks)

    def renew(self, blocks: np.ndarray) -> bool:
        """Fetch blocks again that are damaged in the copy; whether they came right, as far as that can be told."""
        if self._damaged.intersection(blocks.tolist()):
            return False
        _log.warning("%s: its cached copy is damaged: some of it is fetched anew", self._file.address)
        with self._file.cache.lock():
            self._file.block_map.blocks["state"][blocks] = ABSENT
        self.bring(blocks)
        return not self._damaged.intersection(blocks.tolist())

    def close(self) -> None:
        """Stop; safe to call twice. A request under way is left to its time limit."""
        with self._news:
            if self._stopped.is_set():
                return
            self._stopped.set()
            self._news.notify_all()
        for _ in self._threads:
            self._queue.put(None)
        latest = time.monotonic() + 1.0
        for thread in self._threads:
            thread.join(max(latest - time.monotonic(), 0.0))

    def release(self) -> None:
        """Give up pins and claims, when nobody looks at the blocks any more. Safe to call twice."""
        self.close()
        with self._file.cache.lock():
            self._lease.close()

    def _missing(self, blocks: np.ndarray) -> np.ndarray:
        missing = blocks[self._file.block_map.blocks["state"][blocks] == ABSENT]
        return missing[[block not in self._damaged for block in missing.tolist()]] if len(missing) else missing

    def _claim(self, blocks: np.ndarray) -> None:
        """Begin to fetch what of some blocks nobody has or fetches. With the cache's lock held."""
        missing = [block for block in dict.fromkeys(self._missing(blocks).tolist()) if block not in self._claimed]
        if not missing or self._stopped.is_set():
            return
        file = self._file
        wanted = np.asarray(missing)
        others = file.cache.marks_of(file.name, len(file.blocks), {self._lease.path})
        mine = wanted[(others[wanted] & CLAIMED) == 0]
        if not len(mine):
            return
        file.cache.make_room(int(file.blocks.sizes[mine].sum()))
        self._lease.marks[mine] |= CLAIMED
        self._claimed.update(mine.tolist())
        for run in self._runs(mine):
            self._queue.put(run)
            # A thread that is closed has been started, and none begins behind that.
            with self._news:
                if len(self._threads) < file.options.requests and not self._stopped.is_set():
                    thread = threading.Thread(target=self._work, name="ffx-fetcher", daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _runs(self, blocks: np.ndarray) -> Iterable[tuple[int, int]]:
        """First and last block of each request."""
        starts, stops = self._file.blocks.starts, self._file.blocks.stops
        first = last = int(blocks[0])
        for block in blocks[1:].tolist():
            near = block == last + 1 and starts[block] - stops[last] <= _LARGEST_GAP_BYTES
            if near and stops[block] - starts[first] <= _MOST_BYTES_A_REQUEST:
                last = block
                continue
            yield first, last
            first = last = block
        yield first, last

    def _work(self) -> None:
        while (run := self._queue.get()) is not None and not self._stopped.is_set():
            first, last = run
            blocks = np.arange(first, last + 1)
            error: Exception | None = None
            try:
                self._fetch(first, last)
            except Exception as problem:  # Whoever waits for the blocks would wait for ever.
                error = problem
            with self._file.cache.lock():
                if not self._stopped.is_set():
                    self._lease.marks[blocks] &= ~np.uint8(CLAIMED)
            with self._news:
                self._claimed.difference_update(blocks.tolist())
                if error is not None:
                    self._errors.update(dict.fromkeys(blocks.tolist(), error))
                self._news.notify_all()

    def _fetch(self, first: int, last: int) -> None:
        file, blocks = self._file, self._file.blocks
        start, stop = int(blocks.starts[first]), int(blocks.stops[last])
        data = file.fetch(start, stop, self._stopped)
        bad = blocks.damaged_rows(first, last, data)
        if len(bad):
            file.fetched.damaged += 1
            _log.warning("%s: bytes %d-%d came damaged: they are fetched anew", file.address, start, stop - 1)
            data = file.fetch(start, stop, self._stopped)
            bad = blocks.damaged_rows(first, last, data)
        damaged = sorted({blocks.block_of_row(row) for row in bad.tolist()})
        if damaged:
            self._note_damage(bad, damaged)
        file.write(start, data)
        good = np.setdiff1d(np.arange(first, last + 1), damaged)
        with file.cache.lock():
            file.note_written(good)
        file.sync_now_and_then()

    def _note_damage(self, rows: np.ndarray, blocks: list[int]) -> None:
        samples = self._file.blocks.samples_of_rows(rows)
        message = self._file.blocks.describe_row(int(rows[0]))
        if self._on_damage is None:
            raise RemoteError(f"{self._file.address}: {message} came with a wrong checksum, twice")
        _log.warning("%s: %s came with a wrong checksum, twice", self._file.address, message)
        self._on_damage(samples)
        with self._news:
            self._damaged.update(blocks)


@contextmanager
def present(
    file: RemoteFile | None, start: int, stop: int, on_damage: Callable[[np.ndarray], object] | None = None
) -> Iterator[None]:
    """While it lasts, the data between two offsets are in the copy (of a remote file; others have all at any time).

    Raises:
        RemoteError: they cannot be had; or come with wrong checksums, unless `on_damage` is given.
    """
    if file is None:
        yield
        return
    fetcher = Fetcher(file, on_damage)
    try:
        fetcher.bring(file.blocks.of_range(start, stop))
        yield
    finally:
        fetcher.release()
