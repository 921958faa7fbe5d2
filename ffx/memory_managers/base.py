"""What the loader asks of a storage: a context for an epoch, and a compiled function that reads."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import LoaderError

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["MemoryContext", "MemoryManager", "check_length", "open_again"]


def check_length(reader: Reader) -> None:
    """See that the file has not been shortened: whoever reads a map beyond its file's end is killed (SIGBUS).

    Raises:
        LoaderError: it has. Between this look and the reading it still may be.
    """
    found, expected = reader.index.current_bytes(), reader.index.identity[2]
    if found < expected:
        raise LoaderError(
            f"{reader.file_name}: expected {expected} bytes as when it was opened, found {found}: it was shortened "
            "while it was read; write to another path and rename, as ffx's writer does"
        )


def open_again(reader: Reader) -> BinaryIO:
    """The reader's file, opened once more.

    Raises:
        LoaderError: it cannot be, or another file stands at its path now.
    """
    try:
        file = open(reader.local_path, "rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise LoaderError(f"{reader.file_name}: cannot be opened any more: {error}") from error
    status = os.fstat(file.fileno())
    if (status.st_dev, status.st_ino) != reader.index.identity[:2]:
        file.close()
        raise LoaderError(
            f"{reader.file_name}: expected the file that was opened first, found another one there: make a new loader "
            "for it"
        )
    return file


class MemoryContext(AbstractContextManager):
    """The storage during one epoch."""

    @property
    @abstractmethod
    def state(self) -> tuple:
        """What the manager's compiled reader gets as its second argument."""

    def start_batch(self, batch: int) -> None:
        """Called in order, before a batch's samples are read; returns when they can be."""

    def bring(self, sample_ids: np.ndarray) -> None:
        """Have samples that no batch of the epoch asked for, until the context is closed; called by any thread."""

    def renew(self, sample_ids: np.ndarray) -> bool:
        """Read samples again that are damaged where they are kept; whether there was anywhere to read them from."""
        return False

    def storage_words(self) -> np.ndarray:
        """`int64[STORAGE_WORDS]` for native kernels (`ffx.kernels.step`), valid while the context is open."""
        raise NotImplementedError(f"{type(self).__name__} tells no addresses")

    def close(self) -> None:
        """Stop reading and give up; whoever waits in `start_batch` gets a `LoaderError`. Safe to call twice.

        What was read stays where it is: workers may still be looking at it.
        """

    def release(self) -> None:
        """Give a closed context's memory back, when nobody looks at it any more. Safe to call twice."""

    def __enter__(self) -> MemoryContext:
        return self

    def __exit__(self, *_) -> None:
        self.close()
        self.release()


class MemoryManager(ABC):
    """A file's storage.

    Args:
        reader: gives `file_name`, `local_path`, `page_size`, `num_samples`, `alloc_table` and `index`.

    Attributes:
        maps_whole_file: contexts have all samples at any time (`MemoryContext.bring` may have to be called first).
        ptrs, sizes: offset and bytes of every blob, `uint64[rows]`, sorted by offset.
    """

    maps_whole_file = False

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.ptrs, self.sizes = reader.index.pointers, reader.index.sizes
        self._pages: np.ndarray | None = None

    @property
    def page_shift(self) -> int:
        """log2 of the page size."""
        return int(self.reader.page_size).bit_length() - 1

    @property
    def sample_page(self) -> np.ndarray:
        """`int64[num_samples]`: the first page that each sample has data on, -1 for none."""
        if self._pages is None:
            table = self.reader.alloc_table
            stored = table["size"] > 0
            pages = np.full(int(self.reader.num_samples), np.iinfo(np.int64).max)
            numbers = (table["ptr"][stored] >> np.uint64(self.page_shift)).astype(np.int64)
            np.minimum.at(pages, table["sample_id"][stored].astype(np.int64), numbers)
            pages[pages == np.iinfo(np.int64).max] = -1
            self._pages = pages
        return self._pages

    @property
    def sample_to_pages(self) -> dict[int, set[int]]:
        """FFCV's table: the pages of each sample. Slow for large files; `sample_page` is not."""
        return self._sets("sample_id", "page")

    @property
    def page_to_samples(self) -> dict[int, set[int]]:
        """FFCV's table: the samples on each page. Slow for large files."""
        return self._sets("page", "sample_id")

    def _sets(self, key: str, value: str) -> dict[int, set[int]]:
        table = self.reader.alloc_table
        columns = {"sample_id": table["sample_id"], "page": table["ptr"] >> np.uint64(self.page_shift)}
        result: dict[int, set[int]] = {}
        for one, other in zip(columns[key].tolist(), columns[value].tolist(), strict=True):
            result.setdefault(one, set()).add(other)
        return result

    @abstractmethod
    def schedule_epoch(self, batches: Sequence[np.ndarray], in_flight: int = 1) -> MemoryContext:
        """The storage for an epoch whose batches are known, `in_flight` of them under way at once."""

    @abstractmethod
    def compile_reader(self) -> Callable:
        """A compiled function `read(pointer, state) -> uint8[size]`; empty for a pointer to no blob."""

    @property
    @abstractmethod
    def state_type(self):
        """numba's type of a context's `state`."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what is held; the manager can be used again."""
