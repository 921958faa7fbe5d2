"""Parts that a worker has encoded and that wait for their places in the file."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from .assembly import write_part
from .encoder import Part
from .output import write_all

__all__ = ["Waiting"]

# A worker holds so many parts and bytes before it stops (or writes them to a file of its own, where the source
# says so).
_WAITING_PARTS = 8
_WAITING_BYTES = 1 << 26


class Waiting:
    """Parts that wait for their places, in memory or in a file that has no name."""

    def __init__(self, folder: Path, spills: bool) -> None:
        self.folder = folder
        self.spills = spills
        self.parts: deque[tuple[np.ndarray, list[list[np.ndarray]] | None, int]] = deque()
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
            write_all(self._file.fileno(), [piece for pieces in part.buffers for piece in pieces], self._file_end)
            self.parts.append((part.sizes, None, self._file_end))
            self._file_end += size
        else:
            self.parts.append((part.sizes, part.buffers, -1))
            self.bytes_held += size

    def write_first(self, descriptor: int, offsets: np.ndarray) -> int:
        """Write the part that waits longest to its place; the number of its samples."""
        sizes, buffers, start = self.parts.popleft()
        if buffers is None:
            buffers = []
            for size in sizes.tolist():
                buffers.append([np.frombuffer(os.pread(self._file.fileno(), size, start), dtype=np.uint8)])
                start += size
        else:
            self.bytes_held -= int(sizes.sum())
        write_part(descriptor, offsets, buffers)
        if not self.parts and self._file_end:
            self._file.truncate(0)
            self._file_end = 0
        return len(sizes)
