"""Where each sample goes in a file: pages filled in the order of the samples.

A position depends only on the sizes of the samples before it, never on who encodes them or when, so a
file's bytes are the same for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FieldError
from .format import MAX_PAGE_BYTES, MIN_PAGE_BYTES, check_page_size

__all__ = ["Move", "PageAllocator", "round_up"]

_MIB = 1 << 20
# A page that the allocator chooses holds at least so many of the largest sample, ...
_SAMPLES_A_PAGE = 16
# ... as long as that takes no more than this. (What a page's end wastes is half a sample in the mean.)
_LARGEST_ROOMY_PAGE = 16 * _MIB
# Large files get FFCV's default page, which suits disks; small ones need not be padded to it.
_USUAL_PAGE = 8 * _MIB
_PAGES_BEFORE_USUAL = 64


def round_up(offset: int, multiple: int) -> int:
    """The smallest multiple that is not below `offset`."""
    return -(-offset // multiple) * multiple


@dataclass(frozen=True)
class Move:
    """Bytes that have to move so that the metadata fit in front: `[start, stop)` goes `shift` bytes up."""

    start: int
    stop: int
    shift: int


class PageAllocator:
    """Hands out positions in a file, sample by sample.

    A sample never crosses the end of a page. Without a fixed page size the page grows with the samples:
    what lies within a small page lies within a page twice as large, so nothing placed before moves.

    Args:
        head_bytes: bytes of header, descriptors and metadata, as far as they are known.
        page_size: bytes of a page, or `None` to choose.

    Attributes:
        page_size: bytes of a page, so far.
        start: offset of the first page.
        position: offset of the next sample.
    """

    def __init__(self, head_bytes: int, page_size: int | None = None) -> None:
        self.fixed = page_size is not None
        self.page_size = check_page_size(page_size) if page_size is not None else MIN_PAGE_BYTES
        self.start = round_up(head_bytes, self.page_size)
        self.position = self.start
        self._largest = 0

    def place(self, size: int) -> int:
        """Offset for a sample of `size` bytes.

        Raises:
            FieldError: it is larger than a page may be.
        """
        if size > self._largest:
            self._largest = size
            if size > (self.page_size if self.fixed else MAX_PAGE_BYTES):
                self._refuse(size)
        if not self.fixed:
            self._grow()
        room = self.page_size - self.position % self.page_size
        if size > room:
            self.position += room
        offset = self.position
        self.position += size
        return offset

    def _refuse(self, size: int) -> None:
        if self.fixed:
            raise FieldError(f"its {size} bytes do not fit into a page of {self.page_size}: give a larger page_size")
        raise FieldError(f"expected a sample of at most {MAX_PAGE_BYTES} bytes, the largest page, found {size}")

    def _grow(self) -> None:
        wanted = max(
            self._largest,
            min(_SAMPLES_A_PAGE * self._largest, _LARGEST_ROOMY_PAGE),
            min((self.position - self.start) // _PAGES_BEFORE_USUAL, _USUAL_PAGE),
        )
        while self.page_size < wanted:
            self.page_size *= 2

    @property
    def data_end(self) -> int:
        """Offset after the last page; the first page's offset while there is none."""
        return round_up(self.position, self.page_size) if self.position > self.start else self.start

    def settle(self, head_bytes: int) -> tuple[int, Move | None]:
        """Fix the layout for a head of `head_bytes`, which may have become longer than was known.

        Returns:
            where the data end, and what must move out of the head's way to the end of the file.
        """
        if self.position == self.start:
            return head_bytes, None
        if head_bytes <= self.start:
            return self.data_end, None
        # Whole pages move, by whole pages: no sample comes to lie across a page's end.
        first = self.start // self.page_size * self.page_size
        stop = min(round_up(head_bytes, self.page_size), self.data_end)
        shift = max(self.data_end, round_up(head_bytes, self.page_size)) - first
        return stop + shift, Move(self.start, stop, shift)
