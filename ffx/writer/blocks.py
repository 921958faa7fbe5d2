"""Memory for stored bytes: parts are made in blocks, which serve again when their bytes stand in the file.

A sample's bytes follow the one's before it, so a part goes out in few calls, and its memory need be neither asked of
the system nor filled with zeros for each sample anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["BLOCK_BYTES", "BlockPool", "PartBytes"]

# About ten raw pictures: few enough to be in the processor's cache still when they are written.
BLOCK_BYTES = 1 << 22
_FREE_BLOCKS = 4


class BlockPool:
    """The blocks of one process that are not in use: a few, however many were in use at once."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """A block, `uint8[n]` of at least `size` bytes that hold anything."""
        if size <= BLOCK_BYTES and self._free:
            return self._free.pop()
        return np.empty(max(size, BLOCK_BYTES), dtype=np.uint8)

    def give_back(self, blocks: Sequence[np.ndarray]) -> None:
        """Blocks whose bytes nobody needs any more. A huge sample's is not kept."""
        usual = [block for block in blocks if block.size == BLOCK_BYTES]
        self._free.extend(usual[: max(0, _FREE_BLOCKS - len(self._free))])


class PartBytes:
    """A part's bytes in the making, one reserved piece behind the other.

    Attributes:
        blocks: where they lie; give them back to the pool afterwards.
    """

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self.blocks: list[np.ndarray] = []
        self._filled: list[int] = []

    def reserve(self, size: int) -> np.ndarray:
        """`uint8[size]` that hold anything."""
        if not self.blocks or self._filled[-1] + size > self.blocks[-1].size:
            self.blocks.append(self._pool.take(size))
            self._filled.append(0)
        start = self._filled[-1]
        self._filled[-1] = start + size
        return self.blocks[-1][start : start + size]

    @property
    def stream(self) -> list[np.ndarray]:
        """What was reserved so far, in order: the filled part of each block."""
        return [block[:filled] for block, filled in zip(self.blocks, self._filled, strict=True)]
