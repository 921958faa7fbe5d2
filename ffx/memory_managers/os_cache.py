"""The whole file mapped into memory; the operating system decides what of it is in RAM."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numba
import numpy as np

from ..kernels import step
from ..kernels.compiling import compiled
from .base import MemoryContext, MemoryManager, check_length, open_again

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["OSCacheManager"]


@compiled
def read_mapped(address, state):
    """The blob at `address` of a mapped file, as a view; empty if there is none."""
    data, pointers, sizes = state
    # numba turns an int64 and a uint64 together into a float64, so all of it is int64.
    address = np.int64(address)
    row = np.searchsorted(pointers, np.uint64(address), side="right") - 1
    if row < 0 or np.int64(pointers[row]) != address:
        return data[0:0]
    size = np.int64(sizes[row])
    if address < 0 or size < 0 or size > data.size - address:
        return data[0:0]
    return data[address : address + size]


class OSCacheContext(MemoryContext):
    """An epoch over the map, which stays open between epochs."""

    def __init__(self, manager: OSCacheManager) -> None:
        self.manager = manager
        self._data = manager.data

    def start_batch(self, batch: int) -> None:
        """See that the file is as long as it was (`check_length`)."""
        check_length(self.manager.reader)

    @property
    def state(self) -> tuple:
        """`(uint8[file], uint64[rows] pointers, uint64[rows] sizes)`"""
        return self._data, self.manager.ptrs, self.manager.sizes

    def storage_words(self) -> np.ndarray:
        """Addresses in the map."""
        words = np.zeros(step.STORAGE_WORDS, dtype=np.int64)
        words[step.BASE], words[step.SIZE] = self._data.ctypes.data, self._data.size
        words[step.POINTERS], words[step.SIZES] = self.manager.ptrs.ctypes.data, self.manager.sizes.ctypes.data
        words[step.ROWS] = len(self.manager.ptrs)
        return words


class OSCacheManager(MemoryManager):
    """Maps the file; all processes that do share what is in RAM."""

    maps_whole_file = True

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The file's bytes, mapped read-only.

        Raises:
            LoaderError: the file cannot be opened any more, or is another one than the reader's.
        """
        if self._data is None:
            with open_again(self.reader) as file:
                self._data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        return self._data

    def schedule_epoch(self, batches: Sequence[np.ndarray], in_flight: int = 1) -> OSCacheContext:
        """Nothing needs planning."""
        return OSCacheContext(self)

    def compile_reader(self) -> Callable:
        """`read_mapped`."""
        return read_mapped

    @property
    def state_type(self):
        """Type of `(data, pointers, sizes)`."""
        data = numba.types.Array(numba.uint8, 1, "C", readonly=True)
        return numba.types.Tuple([data, numba.uint64[::1], numba.uint64[::1]])

    def close(self) -> None:
        """Forget the map; it is unmapped once nobody looks at it any more."""
        self._data = None
