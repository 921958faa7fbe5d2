"""A file that is changed again and again: what a mutation does to it is undone, so that the next one begins afresh."""

import os
from pathlib import Path

__all__ = ["Canvas"]

# Whatever would make the file larger is left out: it is about structure, not about size.
_MOST_BYTES = 32 << 20


class Canvas:
    """A file on disk (best on one in memory) that remembers how it was.

    Attributes:
        path: the file.
        length: its size in bytes at this moment.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._write_sparsely(content)
        os.ftruncate(self._file, len(content))
        self._original_length = self.length = len(content)
        self._before: list[tuple[int, bytes]] = []

    def _write_sparsely(self, content: bytes) -> None:
        block = 4096
        for start in range(0, len(content), block):
            piece = content[start : start + block]
            if piece.strip(b"\0"):
                os.pwrite(self._file, piece, start)

    def get(self, offset: int, count: int) -> bytes:
        """What stands there; less beyond the end, nothing outside."""
        if offset < 0 or count <= 0 or offset >= self.length:
            return b""
        return os.pread(self._file, min(count, self.length - offset), offset)

    def word(self, offset: int, width: int) -> int:
        """An unsigned little-endian integer; zero bytes stand for those that are not there."""
        return int.from_bytes(self.get(offset, width), "little")

    def put(self, offset: int, data: bytes) -> None:
        """Write, and make the file longer if need be."""
        if offset < 0 or offset + len(data) > _MOST_BYTES:
            return
        self._before.append((offset, self.get(offset, len(data))))
        os.pwrite(self._file, data, offset)
        self.length = max(self.length, offset + len(data))

    def put_word(self, offset: int, width: int, value: int) -> None:
        """Write an unsigned little-endian integer."""
        self.put(offset, (value & ((1 << 8 * width) - 1)).to_bytes(width, "little"))

    def resize(self, length: int) -> None:
        """Cut the file, or make it longer by zeros."""
        if not 0 <= length <= _MOST_BYTES:
            return
        if length < self.length:
            self._before.append((length, self.get(length, self.length - length)))
        os.ftruncate(self._file, length)
        self.length = length

    def undo(self) -> None:
        """Everything as it was at first."""
        for offset, data in reversed(self._before):
            os.pwrite(self._file, data, offset)
        os.ftruncate(self._file, self._original_length)
        self.length = self._original_length
        self._before.clear()
