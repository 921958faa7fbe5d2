"""Which blocks of a file are in the cache: a small file beside the data, mapped by all processes that read it."""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path

import numpy as np

from .blocks import Blocks

__all__ = ["ABSENT", "BlockMap", "DURABLE", "WRITTEN", "boot_number"]

_MAGIC = b"ffxmap1\n"
_HEADER = np.dtype([("magic", "S8"), ("boot", "<u8"), ("blocks", "<i8"), ("table_bytes", "<i8"), ("checksum", "<u8")])
_BLOCK = np.dtype([("start", "<i8"), ("stop", "<i8"), ("used", "<i8"), ("state", "<i8")])

# Written: other processes see it, but it may be lost when the machine stops. Durable: it is on the disk.
ABSENT, WRITTEN, DURABLE = 0, 1, 2


def boot_number() -> int:
    """Tells this run of the machine from others; 0 where it cannot be told."""
    try:
        return zlib.crc32(Path("/proc/sys/kernel/random/boot_id").read_bytes()) + 1
    except OSError:
        return 0


class BlockMap:
    """A block map, open. To be changed with the cache's lock held only.

    Attributes:
        table_bytes: what the file's head and tables take beside the blocks.
        blocks: `_BLOCK[blocks]`: offsets, when it was last used (`time.time_ns`), and whether it is there.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEADER.itemsize:
                raise ValueError("too short")
            self._map = mmap.mmap(file.fileno(), 0)
        self._header = np.frombuffer(self._map, _HEADER, 1)[0:1]
        head = self._header[0]
        good = (
            bytes(head["magic"]) == _MAGIC.rstrip(b"\0") and size == _HEADER.itemsize + head["blocks"] * _BLOCK.itemsize
        )
        if not good:
            raise ValueError("no block map")
        self.table_bytes = int(head["table_bytes"])
        self.blocks = np.frombuffer(self._map, _BLOCK, int(head["blocks"]), _HEADER.itemsize)
        if int(head["checksum"]) != _checksum(self.blocks):
            raise ValueError("damaged")

    @staticmethod
    def make(path: Path, blocks: Blocks, table_bytes: int) -> None:
        """Write the map of a file of which no block is there yet; it appears whole."""
        header, table = np.zeros(1, _HEADER), np.zeros(len(blocks), _BLOCK)
        table["start"], table["stop"] = blocks.starts, blocks.stops
        values = (_MAGIC, boot_number(), len(blocks), table_bytes, _checksum(table))
        for name, value in zip(_HEADER.names or (), values, strict=True):
            header[name] = value
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        with open(beside, "wb") as file:
            file.write(header.tobytes() + table.tobytes())
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)

    def fits(self, blocks: Blocks) -> bool:
        """Whether it is of these blocks."""
        return np.array_equal(self.blocks["start"], blocks.starts) and np.array_equal(self.blocks["stop"], blocks.stops)

    def forget_what_may_be_lost(self) -> None:
        """After a restart of the machine: what was not known to be on the disk does not count."""
        if int(self._header["boot"][0]) != boot_number():
            self.blocks["state"][self.blocks["state"] == WRITTEN] = ABSENT
            self._header["boot"] = boot_number()

    @property
    def present(self) -> np.ndarray:
        """bool[blocks]"""
        return self.blocks["state"] != ABSENT

    @property
    def present_bytes(self) -> int:
        """What is kept of the file, its tables with it."""
        there = self.blocks[self.present]
        return self.table_bytes + int((there["stop"] - there["start"]).sum())

    def flush(self) -> None:
        """Bring it onto the disk."""
        self._map.flush()


def _checksum(table: np.ndarray) -> int:
    """Of what never changes."""
    return zlib.crc32(np.ascontiguousarray(table["start"]).tobytes() + np.ascontiguousarray(table["stop"]).tobytes())
