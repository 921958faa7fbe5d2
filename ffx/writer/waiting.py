"""Parts that a worker has encoded and that wait for their places in the file."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from .assembly import write_part
from .blocks import BlockPool
from .encoder import Part
from .output import write_all

__all__ = ["Waiting"]

# A worker holds so many parts and bytes before it stops (or writes them to a file of its own, where the source
# says so). While one worker is at its task, the next one's whole task has to fit, or they take turns.
_WAITING_PARTS = 32
_WAITING_BYTES = 1 << 26


class Waiting:
    """A worker's parts that wait for their places, in memory or in a file that has no name.

    Args:
        folder: where that file may be.
        spills: whether there may be one.
        pool: where the parts' memory goes back to.
    """

    def __init__(self, folder: Path, spills: bool, pool: BlockPool) -> None:
        self.folder = folder
        self.spills = spills
        self.pool = pool
        # A part that was written to the file is its sizes and where it begins there.
        self.parts: deque[Part | tuple[np.ndarray, int]] = deque()
        self.bytes_held = 0
        self._file: Any = None
        self._file_end = 0

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def full(self) -> bool:
        """Whether the next part has to wait until one has its place."""
        return not self.spills and (self.bytes_held > _WAITING_BYTES or len(self.parts) >= _WAITING_PARTS)

    def add(self, part: Part) -> None:
        """Keep a part's bytes."""
        size = part.bytes_held
        if self.spills and self.parts and self.bytes_held + size > _WAITING_BYTES:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (lives as long as the worker)
            write_all(self._file.fileno(), part.stream, self._file_end)
            self.parts.append((part.sizes, self._file_end))
            self._file_end += size
            self.pool.give_back(part.blocks)
        else:
            self.parts.append(part)
            self.bytes_held += size

    def write_first(self, descriptor: int, offsets: np.ndarray) -> int:
        """Write the part that waits longest to its place; the number of its samples."""
        part = self.parts.popleft()
        if isinstance(part, Part):
            write_part(descriptor, offsets, part.sizes, part.stream)
            self.bytes_held -= part.bytes_held
            self.pool.give_back(part.blocks)
        else:
            sizes, start = part
            write_part(descriptor, offsets, sizes, [self._read(start, int(sizes.sum()))])
        if not self.parts and self._file_end:
            self._file.truncate(0)
            self._file_end = 0
        return len(offsets)

    def _read(self, start: int, size: int) -> np.ndarray:
        data = np.empty(size, dtype=np.uint8)
        done = 0
        while done < size:
            got = os.preadv(self._file.fileno(), [data[done:].data], start + done)
            if got <= 0:
                raise OSError(errno.EIO, "a file that keeps encoded samples ended early")
            done += got
        return data
