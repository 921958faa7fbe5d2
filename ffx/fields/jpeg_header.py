"""Just enough of a JPEG's markers to decide whether it can be stored without encoding it again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .jpeg_markers import END, MOST_SEGMENTS, SCAN, count_scans

__all__ = ["JpegHeader", "read_jpeg_header"]

# Baseline, extended and progressive frames with Huffman coding: what every libjpeg decodes.
_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_STANDALONE = (0x01, *range(0xD0, 0xD8))
_ADOBE = 0xEE
_FILL = re.compile(rb"\xff+")


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says of itself.

    Attributes:
        width, height: in pixels.
        components: 1 for grey, 3 for colour, 4 for CMYK and YCCK.
        frame: the number of its frame marker (0xC0 baseline, 0xC1 extended, 0xC2 progressive).
        decodes_to_rgb: eight bits, grey or three components in a colour space that decoders guess right.
        complete: it ends with an end-of-image marker (padding and trailing bytes allowed).
        sampling: each component's sampling factors, (horizontal, vertical).
        scans: how many the picture has (coded data hold no markers, so they are counted without decoding).
    """

    width: int
    height: int
    components: int
    frame: int
    decodes_to_rgb: bool
    complete: bool
    sampling: tuple[tuple[int, int], ...] = ()
    scans: int = 1


def read_jpeg_header(data: bytes | bytearray | memoryview) -> JpegHeader | None:
    """The header of a JPEG, or `None` where the bytes are no JPEG with Huffman coding.

    The markers before the first scan are read, the end is looked for, and scans are counted.
    """
    data = data if isinstance(data, bytes) else bytes(data)
    if data[:3] != b"\xff\xd8\xff":
        return None
    position = 2
    frame = None
    adobe_transform = None
    for _ in range(MOST_SEGMENTS):
        if position + 4 > len(data):
            return None
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            # Fill bytes, one of them this segment's first.
            position += _FILL.match(data, position).end() - position - 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if marker == END or marker in _OTHER_FRAMES or length < 2 or len(segment) != length - 2:
            return None
        if marker in _FRAMES:
            if frame is not None or len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
                return None
            frame = (marker, segment)
        elif marker == _ADOBE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe_transform = segment[11]
        elif marker == SCAN:
            end = data.rfind(b"\xff\xd9", position + 2 + length)
            # Most files have one; the second may lie in what follows the picture.
            scans = 1 if data.find(b"\xff\xda", position + 2) < 0 else count_scans(data, position)
            return _header(frame, adobe_transform, end >= 0, scans)
        position += 2 + length
    return None


def _header(
    frame: tuple[int, bytes] | None, adobe_transform: int | None, complete: bool, scans: int
) -> JpegHeader | None:
    if frame is None:
        return None
    marker, segment = frame
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    components = segment[5]
    # Three components are YCbCr unless the Adobe marker or the components' names (R, G, B) say RGB;
    # decoders agree on the first and not always on the others.
    names = segment[6::3]
    plain = components == 1 or (components == 3 and adobe_transform in (None, 1) and names != b"RGB")
    good = segment[0] == 8 and plain and width > 0 and height > 0
    sampling = tuple((factors >> 4, factors & 15) for factors in segment[7::3])
    return JpegHeader(width, height, components, marker, good, complete, sampling, scans)
