"""A walk over the markers of a JPEG up to its picture's own end, as libjpeg walks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["END", "MOST_SEGMENTS", "SCAN", "Segment", "count_scans", "segments"]

SCAN, END = 0xDA, 0xD9
# Of so many, each as large as it may be, a JPEG of 4 GiB is made; to walk over more small ones takes only time.
MOST_SEGMENTS = 65536
_STANDALONE = (0x01, *range(0xD0, 0xDA))
# FF FF is a fill byte before a marker; FF 00 is a byte of coded data, or one that is out of place.
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MARKER_BEHIND_CODES = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


class Segment(NamedTuple):
    """A marker and what belongs to it, a scan's coded data among it: `data[start:stop]`."""

    marker: int
    start: int
    stop: int


def segments(data: bytes, position: int = 2) -> Iterator[Segment]:
    """The segments of a JPEG's picture, in order, the end marker the last.

    What libjpeg passes over is passed over: bytes that belong to no segment, and whatever follows the end. Without an
    end marker the last segment is the last that begins in the data. Each byte is looked at once.

    Args:
        data: the JPEG.
        position: where to begin, behind the start marker or at a segment.
    """
    while (found := _MARKER.search(data, position)) is not None:
        start, position = found.span()
        marker = data[start + 1]
        if marker not in _STANDALONE:
            # Of a length that is too small libjpeg, too, takes nothing but the length.
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        if marker == SCAN:
            behind = _MARKER_BEHIND_CODES.search(data, position)
            position = len(data) if behind is None else behind.start()
        yield Segment(marker, start, min(position, len(data)))
        if marker == END:
            return


def count_scans(data: bytes, position: int = 2) -> int:
    """How many scans a JPEG's picture has from `position` on: none of those in previews, and behind its end.

    Only `MOST_SEGMENTS` segments are looked at.
    """
    return sum(segment.marker == SCAN for segment in itertools.islice(segments(data, position), MOST_SEGMENTS))
