"""A file's bytes while it is being opened."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from .refusing import require

__all__ = ["OpenFile"]


class OpenFile:
    """Reads are exact, and only within the file's size.

    Args:
        handle: the file.
        ensure: called with two offsets before what is between them is looked at.

    Attributes:
        size: bytes of the file when it was opened.
        identity: device, number, size and times of change, which tell it from any other.
    """

    def __init__(self, handle: BinaryIO, ensure: Callable[[int, int], object] | None = None) -> None:
        self.handle = handle
        self._ensure = ensure
        self._mapped: mmap.mmap | None = None
        status = os.fstat(handle.fileno())
        self.size = status.st_size
        times = status.st_mtime_ns, status.st_ctime_ns
        self.identity: tuple[int, ...] = (status.st_dev, status.st_ino, status.st_size, *times)

    def read(self, start: int, count: int, what: str) -> bytes:
        """`count` bytes from `start` on; `what` they are, for messages."""
        require(start + count <= self.size, what, f"{count} bytes at offset {start}", f"a file of {self.size} bytes")
        if self._ensure is not None:
            self._ensure(start, start + count)
        self.handle.seek(start)
        data = self.handle.read(count)
        require(len(data) == count, what, f"{count} bytes at offset {start}", f"{len(data)}")
        return data

    def mapped(self, count: int) -> np.ndarray:
        """The first `count` bytes as a read-only array that keeps the map alive."""
        if self._ensure is not None:
            self._ensure(0, count)
        self._mapped = mmap.mmap(self.handle.fileno(), count, access=mmap.ACCESS_READ)
        return np.frombuffer(self._mapped, dtype=np.uint8)

    def length_of_mapped(self) -> int:
        """How long the file is now, of which something was mapped: the map keeps it open."""
        assert self._mapped is not None
        return self._mapped.size()
