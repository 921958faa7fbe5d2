"""How the engine calls a compiled operation: the words of a step, and what a kernel returns.

A native step is a numba `cfunc`

    int64 kernel(int64 step, int64 first, int64 stop, int64 thread)

that makes samples `first … stop - 1` of a batch. `step` is the address of `int64` words that
describe the batch and the operation (the indices below); `thread` is the address of the thread's own
words (JPEG handle and scratch memory, `ffx.kernels.memory`). It returns `OK`, or
`failure(position, status)` for the first sample that it could not make. It must not raise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import njit, types

from .compiling import compiled, compiled_callback
from .memory import load_i64, load_u32, load_u64

__all__ = [
    "KERNEL_SIGNATURE",
    "SAMPLE_IDS",
    "OCCURRENCES",
    "RANDOM_KEY",
    "SOURCE",
    "SOURCE_BYTES",
    "TARGET",
    "TARGET_BYTES",
    "METADATA",
    "METADATA_BYTES",
    "STORAGE",
    "OWN",
    "OK",
    "OUT_OF_FILE",
    "BAD_JPEG",
    "SIZE_MISMATCH",
    "NO_MEMORY",
    "OUT_OF_TARGET",
    "UNKNOWN_MODE",
    "NO_DECODER",
    "DAMAGED",
    "STATUS_TEXT",
    "POINTERS",
    "SIZES",
    "STORAGE_WORDS",
    "NativeKernel",
    "failure",
    "locate",
    "native_kernel",
    "word",
]

KERNEL_SIGNATURE = types.int64(types.int64, types.int64, types.int64, types.int64)

SAMPLE_IDS = 0  # address of uint64[batch]: each sample's index in the file
OCCURRENCES = 1  # address of uint32[batch]: how often the sample came before in this epoch
RANDOM_KEY = 2  # the operation's key for this seed and epoch (ffx.kernels.rng)
SOURCE = 3  # address of the first sample's input; 0 for decoders
SOURCE_BYTES = 4  # from one sample's input to the next
TARGET = 5  # address of the first sample's output
TARGET_BYTES = 6
METADATA = 7  # address of this field's metadata of the file's sample 0
METADATA_BYTES = 8  # from one sample's record to the next
STORAGE = 9  # address of the storage's words, below
OWN = 10  # the first of the kernel's own words

# The storage's words: where stored bytes lie in memory.
BASE = 0  # address of the mapped file, or of the page cache's memory
SIZE = 1  # bytes there
POINTERS = 2  # address of the allocation table's pointers, sorted: uint64[rows]
SIZES = 3  # address of their sizes: uint64[rows]
ROWS = 4
PAGE_SHIFT = 5  # log2 of the page size
PAGE_TO_SLOT = 6  # address of uint32[pages]; 0 where the whole file is mapped
PAGES = 7
STORAGE_WORDS = 8

OK = 0
OUT_OF_FILE = 1
BAD_JPEG = 2
SIZE_MISMATCH = 3
NO_MEMORY = 4
OUT_OF_TARGET = 5
UNKNOWN_MODE = 6
NO_DECODER = 7
DAMAGED = 8

STATUS_TEXT = {
    OUT_OF_FILE: "its data would lie outside the file",
    BAD_JPEG: "its JPEG data are damaged",
    SIZE_MISMATCH: "its stored size differs from what the metadata say",
    NO_MEMORY: "there was no memory for its decoded image",
    OUT_OF_TARGET: "its data are larger than the buffer for them",
    UNKNOWN_MODE: "its image mode is unknown, or none that the file had when the loader was made",
    NO_DECODER: "the JPEG decoder could not be started",
    DAMAGED: "its bytes differ from the checksum that their writer stored",
}


class NativeKernel:
    """A kernel that is compiled (or fetched from numba's cache on disk) when its address is first asked for.

    So importing ffx compiles nothing, and a program pays only for the kernels that it uses.
    """

    def __init__(self, function: Callable) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    @functools.cached_property
    def _compiled(self):
        return compiled_callback(KERNEL_SIGNATURE, self._function)

    @property
    def address(self) -> int:
        """Where the compiled kernel can be called."""
        return self._compiled.address


def native_kernel(function: Callable) -> NativeKernel:
    """Decorator for kernels of the form above."""
    return NativeKernel(function)


@njit(inline="always")
def word(step, index):
    """One of a step's words."""
    return load_i64(step + 8 * index)


@njit(inline="always")
def failure(position, status):
    """What a kernel returns for the sample at `position` of the batch."""
    return ((position + 1) << 8) | status


@compiled
def locate(storage, pointer, size):
    """Where a blob of the file lies in memory.

    Args:
        storage: address of the storage's words.
        pointer: the blob's offset in the file.
        size: its bytes if known, or -1 to look them up in the allocation table.

    Returns:
        `(address, size)`; the address is 0 where the blob would lie outside the file.
    """
    pointer = np.int64(pointer)
    size = np.int64(size)
    if size < 0:
        low, high = np.int64(0), word(storage, ROWS)
        pointers = word(storage, POINTERS)
        while low < high:
            middle = (low + high) >> 1
            if np.int64(load_u64(pointers + 8 * middle)) < pointer:
                low = middle + 1
            else:
                high = middle
        if low >= word(storage, ROWS) or np.int64(load_u64(pointers + 8 * low)) != pointer:
            return np.int64(0), np.int64(0)
        # Of several blobs at one address all but the last are empty.
        while low + 1 < word(storage, ROWS) and np.int64(load_u64(pointers + 8 * (low + 1))) == pointer:
            low += 1
        size = np.int64(load_u64(word(storage, SIZES) + 8 * low))
    table = word(storage, PAGE_TO_SLOT)
    offset = pointer
    if table != 0:
        shift = word(storage, PAGE_SHIFT)
        page = pointer >> shift
        if pointer < 0 or page >= word(storage, PAGES):
            return np.int64(0), np.int64(0)
        within = pointer - (page << shift)
        if size > (np.int64(1) << shift) - within:
            return np.int64(0), np.int64(0)
        offset = (np.int64(load_u32(table + 4 * page)) << shift) + within
    if size < 0 or offset < 0 or offset > word(storage, SIZE) - size:
        return np.int64(0), np.int64(0)
    return word(storage, BASE) + offset, size
