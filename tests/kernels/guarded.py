"""Memory between two pages that nobody may touch: a kernel that reads or writes beyond it ends the process."""

import ctypes
import mmap

import numpy as np

__all__ = ["Guarded"]


class Guarded:
    """Room for up to `size` bytes; `place` puts data against the forbidden page behind it, or before it.

    Keep the object as long as the arrays that it gives.
    """

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.room = (size // page + 1) * page
        self.memory = mmap.mmap(-1, self.room + 2 * page)
        self.array = np.frombuffer(self.memory, np.uint8)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start in (0, page + self.room):
            assert (
                protect(self.array.ctypes.data + start, page, mmap.PROT_NONE if hasattr(mmap, "PROT_NONE") else 0) == 0
            )

    def place(self, data: np.ndarray, at_end: bool = True) -> np.ndarray:
        """A copy of `uint8[n]` whose last (or first) byte lies beside a forbidden page."""
        page = mmap.PAGESIZE
        start = page + (self.room - data.size if at_end else 0)
        part = self.array[start : start + data.size]
        part[:] = data
        return part
