"""Which samples of a file are known to be right: checksums are looked at when a sample is first touched.

A process remembers it for each file, so that a second loader, or the next one, need not look again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

import numpy as np

from ..format import FileIndex, rows_by_sample
from ..kernels import verify as kernel
from ..pipeline.operation import NativeStep

__all__ = ["VERIFY_MODES", "Verification"]

VERIFY_MODES = ("first", "always", "never")

# Files of which a process remembers what it has seen; a byte a sample each.
_MOST_FILES = 16
_known: OrderedDict[tuple, np.ndarray] = OrderedDict()
_lock = threading.Lock()


def _marks_of(index: FileIndex) -> np.ndarray:
    """`uint8[samples]` of a file, the same for all who ask while it stays the same file."""
    samples = int(index.header["num_samples"])
    key = (os.path.realpath(index.path), *index.identity, *index.digest, samples)
    with _lock:
        marks = _known.setdefault(key, np.zeros(samples, np.uint8))
        _known.move_to_end(key)
        while len(_known) > _MOST_FILES:
            _known.popitem(last=False)
    return marks


class Verification:
    """The check of a file's samples.

    Args:
        index: the file.
        mode: `"first"`: each sample once a process, when it is first touched; `"always"`: each time; `"never"`.
        may_forget: samples that were right may be asked for again, because they were fetched again (`forget`).
    """

    def __init__(self, index: FileIndex, mode: str, may_forget: bool = False) -> None:
        self._mode = mode
        self._may_forget = may_forget
        self._marks: np.ndarray | None = None
        self._step: NativeStep | None = None
        # An empty table: there is nothing stored but metadata, which are proved right at opening.
        if mode != "never" and index.checksums is not None and len(index.pointers):
            self._marks = _marks_of(index)
            self._step = self._make_step(index, self._marks)
            # Compiled, or loaded, here and not within the first batch.
            _ = kernel.verify_samples.address

    def _make_step(self, index: FileIndex, marks: np.ndarray) -> NativeStep:
        assert index.checksums is not None
        checksums = np.ascontiguousarray(index.checksums)
        grouped = rows_by_sample(index)
        words = [0] * kernel.OWN_WORDS
        words[kernel.CHECKED] = marks.ctypes.data
        words[kernel.ALWAYS] = int(self._mode == "always")
        words[kernel.CHECKSUMS] = checksums.ctypes.data
        words[kernel.EACH] = grouped.each
        words[kernel.STARTS] = 0 if grouped.starts is None else grouped.starts.ctypes.data
        words[kernel.ROWS] = 0 if grouped.rows is None else grouped.rows.ctypes.data
        return NativeStep(kernel.verify_samples, tuple(words), keep=(marks, checksums, grouped))

    def forget(self, sample_ids: np.ndarray) -> None:
        """Look at some samples again when they are touched next."""
        if self._marks is not None:
            self._marks[sample_ids] = 0

    @property
    def step(self) -> NativeStep | None:
        """What samples go through before the front; `None` where there is nothing (more) to check."""
        done = self._mode == "first" and not self._may_forget and self._marks is not None and bool(self._marks.all())
        return None if done else self._step
