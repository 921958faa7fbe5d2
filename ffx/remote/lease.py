"""What a reader of a cached file needs to stay there, and what it is about to fetch; for the others to see.

A lease is a file with a byte for each block, whose lock its owner holds while it lives: what the dead left is removed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import weakref
from pathlib import Path

import numpy as np

from ..errors import RemoteError
from .locking import is_held

__all__ = ["CLAIMED", "PINNED", "Lease", "OtherLeases"]

PINNED, CLAIMED = 1, 2
_PREFIX = "lease-"


class Lease:
    """A reader's own. To be changed with the cache's lock held only.

    Attributes:
        marks: uint8[blocks], `PINNED` and `CLAIMED` bits.
        path: of its file.
    """

    def __init__(self, folder: Path, blocks: int) -> None:
        self._process = os.getpid()
        self.path = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            # With room on the disk: writing into a hole of a mapped file on a full one would end the process.
            os.posix_fallocate(self._file, 0, max(blocks, 1))
        except OSError as error:
            self.close()
            raise RemoteError(f"{self.path}: cannot be made: {error.strerror}: choose another cache_dir") from error
        self.marks = np.frombuffer(mmap.mmap(self._file, max(blocks, 1)), np.uint8)[:blocks]

    def close(self) -> None:
        """Give it up; safe to call twice. In a forked process it stays the parent's."""
        if self._file >= 0:
            if self._process == os.getpid():
                self.path.unlink(missing_ok=True)
                # The map, and forked processes, have the same open file.
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = -1


class OtherLeases:
    """What the others that live hold of a folder's file; asked for with the cache's lock held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[int, np.ndarray]] = {}
        weakref.finalize(self, _close_all, self._open)

    def marks(self, blocks: int, but: set[Path]) -> np.ndarray:
        """uint8[blocks]: the bits of all leases together, except those of some paths."""
        names = {entry.name for entry in os.scandir(self._folder) if entry.name.startswith(_PREFIX)}
        for name in self._open.keys() - names:
            os.close(self._open.pop(name)[0])
        result = np.zeros(blocks, np.uint8)
        for name in names - {path.name for path in but}:
            lease = self._living(name, blocks)
            if lease is not None:
                result |= lease
        return result

    def _living(self, name: str, blocks: int) -> np.ndarray | None:
        if name not in self._open:
            try:
                file = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            if os.fstat(file).st_size < max(blocks, 1):
                # Being made, or its maker died over it.
                if not is_held(file):
                    (self._folder / name).unlink(missing_ok=True)
                os.close(file)
                return None
            self._open[name] = file, np.frombuffer(mmap.mmap(file, max(blocks, 1)), np.uint8)[:blocks]
        file, marks = self._open[name]
        if is_held(file):
            return marks
        (self._folder / name).unlink(missing_ok=True)
        del self._open[name]
        os.close(file)
        return None

    def any_living(self, blocks: int) -> bool:
        """Whether anybody reads the file."""
        self.marks(blocks, set())
        return bool(self._open)

    def close(self) -> None:
        """Close what is open."""
        _close_all(self._open)


def _close_all(leases: dict[str, tuple[int, np.ndarray]]) -> None:
    while leases:
        os.close(leases.popitem()[1][0])
