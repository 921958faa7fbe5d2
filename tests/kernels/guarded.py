"""Memory between two pages that nobody may touch: a kernel that reads or writes beyond it ends the process."""

import ctypes
import mmap

import numpy as np

__all__ = ["Guarded"]


class Guarded:
    """Room for at least `size` bytes, `bytes`, whose first and last byte lie beside a forbidden page.

    Keep the object as long as the arrays that it gives.
    """

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        room = (size // page + 1) * page
        self._memory = mmap.mmap(-1, room + 2 * page)
        self.bytes = np.frombuffer(self._memory, np.uint8)[page : page + room]
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        nothing_allowed = 0
        for forbidden in (self.bytes.ctypes.data - page, self.bytes.ctypes.data + room):
            assert protect(forbidden, page, nothing_allowed) == 0

    def ends(self, count: int) -> list[np.ndarray]:
        """The first `count` bytes, and the last."""
        return [self.bytes[:count], self.bytes[self.bytes.size - count :]]

    def place(self, data: np.ndarray, at_end: bool = True) -> np.ndarray:
        """A copy of `uint8[n]` whose last (or first) byte lies beside a forbidden page."""
        part = self.ends(data.size)[at_end]
        part[:] = data
        return part

    def is_untouched(self, value: int, part: np.ndarray) -> bool:
        """Whether all bytes outside `part`, an array within, still have a value."""
        first = part.ctypes.data - self.bytes.ctypes.data
        return bool((self.bytes[:first] == value).all() and (self.bytes[first + part.nbytes :] == value).all())
