"""A file's data cut into blocks: what is fetched, kept and given up as a whole.

A block ends where samples end, so all of it can be held against checksums before it counts as being there.
"""

from __future__ import annotations

import functools

import numpy as np

from ..format import FileIndex
from ..kernels.verify import check_rows

__all__ = ["BLOCK_SHIFT", "Blocks"]

# Samples that begin in the same MiB of the same page make a block.
BLOCK_SHIFT = 20


class Blocks:
    """The blocks of a file.

    Attributes:
        starts, stops: int64[blocks], offsets in the file, ascending.
        pages: int64[blocks], the page that each lies on.
    """

    def __init__(self, index: FileIndex) -> None:
        self._index = index
        page_shift = int(index.header["page_size"]).bit_length() - 1
        shift = np.uint64(min(BLOCK_SHIFT, page_shift))
        self._filled = np.flatnonzero(index.sizes > 0)
        pointers = index.pointers[self._filled]
        _, first, self._of_filled = np.unique(pointers >> shift, return_index=True, return_inverse=True)
        last = np.r_[first[1:], len(pointers)] - 1
        self.starts = pointers[first].astype(np.int64)
        self.stops = (pointers + index.sizes[self._filled])[last[: len(first)]].astype(np.int64)
        self.pages = self.starts >> page_shift
        self._rows = np.r_[self._filled[first], len(index.pointers)]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> np.ndarray:
        """int64[blocks], bytes of each."""
        return self.stops - self.starts

    @functools.cached_property
    def _by_sample(self) -> tuple[np.ndarray, np.ndarray]:
        samples = self._index.sample_ids[self._filled].astype(np.int64)
        order = np.argsort(samples, kind="stable")
        counts = np.arange(int(self._index.header["num_samples"]) + 1)
        return np.searchsorted(samples[order], counts), self._of_filled[order]

    def of_samples(self, sample_ids: np.ndarray) -> np.ndarray:
        """The blocks, each once and ascending, that some samples have data in."""
        starts, blocks = self._by_sample
        ids = np.asarray(sample_ids).astype(np.int64)
        lengths = starts[ids + 1] - starts[ids]
        ends = np.cumsum(lengths)
        return np.unique(blocks[np.repeat(starts[ids + 1] - ends, lengths) + np.arange(int(lengths.sum()))])

    def of_range(self, start: int, stop: int) -> np.ndarray:
        """The blocks that have bytes between two offsets."""
        return np.arange(np.searchsorted(self.stops, start, "right"), np.searchsorted(self.starts, stop, "left"))

    def damaged_rows(self, first: int, last: int, data: bytearray) -> np.ndarray:
        """Which rows of the blocks `first … last`, whose bytes are given, differ from their checksums."""
        index = self._index
        rows = slice(int(self._rows[first]), int(self._rows[last + 1]))
        if index.checksums is None:
            return np.empty(0, np.int64)
        count = rows.stop - rows.start
        good = np.empty(count, bool)
        view, start = np.frombuffer(data, np.uint8), int(self.starts[first])
        columns = (index.pointers[rows], index.sizes[rows], index.checksums[rows])
        check_rows(view.ctypes.data - start, start + len(data), *columns, 0, count, good)
        return rows.start + np.flatnonzero(~good & (columns[1] > 0))

    def block_of_row(self, row: int) -> int:
        """The block that a filled row lies in."""
        return int(np.searchsorted(self._rows, row, "right")) - 1

    def samples_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The samples that rows belong to."""
        return np.unique(self._index.sample_ids[rows]).astype(np.int64)

    def describe_row(self, row: int) -> str:
        """A row in words: its sample, its size, its place."""
        index = self._index
        return f"sample {index.sample_ids[row]} ({index.sizes[row]} bytes at offset {index.pointers[row]})"
