"""A file's bytes while it is being opened."""

from __future__ import annotations

import mmap
import os
from typing import BinaryIO

import numpy as np

from .refusing import require

__all__ = ["OpenFile"]


class OpenFile:
    """Reads are exact, and only within the file's size.

    Attributes:
        size: bytes of the file when it was opened.
        identity: device, number, size and time of change, which tell it from any other.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self.handle = handle
        status = os.fstat(handle.fileno())
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, start: int, count: int, what: str) -> bytes:
        """`count` bytes from `start` on; `what` they are, for messages."""
        require(start + count <= self.size, what, f"{count} bytes at offset {start}", f"a file of {self.size} bytes")
        self.handle.seek(start)
        data = self.handle.read(count)
        require(len(data) == count, what, f"{count} bytes at offset {start}", f"{len(data)}")
        return data

    def mapped(self, count: int) -> np.ndarray:
        """The first `count` bytes as a read-only array that keeps the map alive."""
        return np.frombuffer(mmap.mmap(self.handle.fileno(), count, access=mmap.ACCESS_READ), dtype=np.uint8)
