"""A remote file and its copy on the local disk, which has holes where nothing was fetched yet."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from ..errors import RemoteError
from ..format import FileIndex
from .address import cache_name, redacted
from .block_map import DURABLE, WRITTEN, BlockMap
from .blocks import Blocks
from .cache import DATA, MAP, OPENING, Cache
from .fetch import Fetched, fetch_range, try_again
from .lease import Lease
from .locking import held
from .opening import open_store
from .options import RemoteOptions
from .store import Store

__all__ = ["RemoteFile"]

# Head and tables are fetched in such parts, before it is known which blocks the file has.
_PART_BYTES = 1 << 20
_BYTES_BETWEEN_SYNCS = 256 << 20
_MOST_BYTES = 1 << 63


class RemoteFile:
    """One version of a file behind an address, and its cached copy.

    Args:
        address: may have credentials in it.
        options: how to read and keep it.

    Attributes:
        address: without credentials, for messages.
        path: of the copy, as long as the file itself.
        identity: stands for device, number and times of change.
        fetched: what this process asked for so far.
        blocks: known once the file is open (`finish`).

    Raises:
        RemoteError: it cannot be reached, or what reads such addresses is not installed.
    """

    blocks: Blocks
    block_map: BlockMap

    def __init__(self, address: str, options: RemoteOptions) -> None:
        self._given, self.address, self.options = address, redacted(address), options
        self.fetched = Fetched()
        self._stores: dict[int, Store] = {}
        self._unsynced_bytes = 0
        self._parts: set[int] = set()
        self.cache = Cache(options.folder, options.cache_bytes)
        self.version = try_again(self.store, "its version", options.attempts, threading.Event(), self.store.version)
        if not 0 < self.version.size < _MOST_BYTES:
            size = self.version.size
            raise self.store.refused("it is empty" if size == 0 else f"expected a length below 2^63, found {size}")
        self.name = cache_name(address, self.version.size, self.version.etag, self.version.modified)
        self.path = self.cache.folder / self.name / DATA

    @property
    def store(self) -> Store:
        """The store, in each process (connections do not survive a fork) its own."""
        process = os.getpid()
        if process not in self._stores:
            self._stores = {process: open_store(self._given, self.options)}
        return self._stores[process]

    @property
    def identity(self) -> tuple[int, ...]:
        """Device and number of the copy, the file's size, and what stands for its times of change."""
        status = self.path.stat()
        version = hashlib.sha256(self.name.encode()).digest()
        return status.st_dev, status.st_ino, self.version.size, int.from_bytes(version[:7], "big"), 0

    def check_version(self) -> None:
        """See that the version that was opened still stands at the address.

        Raises:
            RemoteError: another one does, or it cannot be told.
        """
        now = try_again(self.store, "its version", 1, threading.Event(), self.store.version)
        self.version.check(self.address, now)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """While head and tables are read: by one process at a time, so that they are fetched once."""
        with held(self.path.with_name(OPENING)):
            try:
                self._make_copy()
            except OSError as error:
                raise RemoteError(
                    f"{self.address}: its copy {self.path} of {self.version.size:,} bytes cannot be made: "
                    f"{error.strerror}: choose another cache_dir"
                ) from error
            if not self.path.with_name("about.json").exists():
                about = {"address": self.address, "bytes": self.version.size, "etag": self.version.etag}
                self.path.with_name("about.json").write_text(json.dumps(about) + "\n")
            yield

    def _make_copy(self) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(file).st_size != self.version.size:
                os.ftruncate(file, self.version.size)
        finally:
            os.close(file)

    def ensure(self, start: int, stop: int) -> None:
        """Have bytes of the head or the tables in the copy, while it is being opened."""
        if self.cache.map_of(self.name) is not None:
            return
        parts = [part for part in range(start // _PART_BYTES, -(-stop // _PART_BYTES)) if part not in self._parts]
        with ThreadPoolExecutor(self.options.requests) as pool:
            list(pool.map(self._fetch_part, parts))
        self._parts.update(parts)

    def _fetch_part(self, part: int) -> None:
        start, stop = part * _PART_BYTES, min((part + 1) * _PART_BYTES, self.version.size)
        self.write(start, self.fetch(start, stop, threading.Event()))

    def forget_tables(self) -> None:
        """Fetch head and tables again: what is there is damaged."""
        self.path.with_name(MAP).unlink(missing_ok=True)
        self._parts.clear()

    def finish(self, index: FileIndex) -> None:
        """Head and tables are there and right: what follows is read by blocks."""
        self.blocks = Blocks(index)
        place = self.path.with_name(MAP)
        with self.cache.lock():
            known = self.cache.map_of(self.name)
            if known is None or not known.fits(self.blocks):
                self._sync_data()
                BlockMap.make(place, self.blocks, index.data_start + self.version.size - index.data_end)
                known = self.cache.map_of(self.name)
            if known is None:
                raise RemoteError(f"{self.address}: the map of its cached copy, {place}, cannot be read back")
            self.block_map = known
            known.forget_what_may_be_lost()
            # Also removes what the dead left.
            self.cache.marks_of(self.name, len(self.blocks), set())
            # Keeps the copy from being removed as long as this is looked at.
            lease = Lease(self.path.parent, len(self.blocks))
        self._letting_go = weakref.finalize(self, lease.close)

    def fetch(self, start: int, stop: int, stopped: threading.Event) -> bytearray:
        """The bytes from `start` to `stop - 1`, from the store.

        Raises:
            RemoteError: they cannot be had.
        """
        return fetch_range(self.store, self.version, start, stop, stopped, self.fetched)

    def write(self, start: int, data: bytearray) -> None:
        """Put fetched bytes into the copy.

        Raises:
            RemoteError: the disk does not take them.
        """
        try:
            file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                view, done = memoryview(data), 0
                while done < len(view):
                    done += os.pwrite(file, view[done:], start + done)
            finally:
                os.close(file)
        except OSError as error:
            raise RemoteError(
                f"{self.address}: its copy {self.path} cannot be written: {error.strerror}: choose another cache_dir, "
                "or a smaller cache_bytes"
            ) from error

    def note_written(self, blocks: np.ndarray) -> None:
        """Blocks are in the copy, and right. With the cache's lock held."""
        self.block_map.blocks["used"][blocks] = time.time_ns()
        self.block_map.blocks["state"][blocks] = WRITTEN
        self._unsynced_bytes += int(self.blocks.sizes[blocks].sum())

    def sync_now_and_then(self) -> None:
        """Bring what is written onto the disk, once it is much: then it outlasts a stop of the machine."""
        if self._unsynced_bytes < _BYTES_BETWEEN_SYNCS:
            return
        self._unsynced_bytes = 0
        table = self.block_map.blocks
        written = np.flatnonzero(table["state"] == WRITTEN)
        used = table["used"][written]
        self._sync_data()
        with self.cache.lock():
            # Not what was given up and fetched again in between.
            same = written[(table["state"][written] == WRITTEN) & (table["used"][written] == used)]
            table["state"][same] = DURABLE

    def _sync_data(self) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
