"""The header of a baseline JPEG, read in compiled code: what the usual encoders write, and nothing else.

Whatever is unusual, or wrong, is `DECLINED`: another decoder then has the last word. Nothing outside
`[data, data + size)` is read.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at, load_u8

__all__ = [
    "AC_TABLES",
    "COMPONENTS",
    "DC_TABLES",
    "DECLINED",
    "EOI",
    "FRAME_WORDS",
    "HORIZONTAL",
    "QUANTISERS",
    "RESTART_INTERVAL",
    "SCAN_START",
    "TABLE_NUMBERS",
    "VERTICAL",
    "is_too_short",
    "read_frame",
]

# Beside the statuses of `ffx.kernels.step`; never leaves the JPEG kernels.
DECLINED = -1

# The frame's words (int64).
COMPONENTS = 0  # 1 (grey) or 3 (YCbCr)
HORIZONTAL = 1  # how many times fewer columns chroma has: 1 or 2
VERTICAL = 2
RESTART_INTERVAL = 3  # in MCUs; 0 without
SCAN_START = 4  # address of the entropy-coded data
QUANTISERS = 5  # of each component: address of the 64 bytes of its quantisation table
TABLE_NUMBERS = 8  # of each component: 4 * DC table's number + AC table's number
DC_TABLES = 11  # of each of four numbers: address of the 16 counts and the symbols behind; 0 if not defined
AC_TABLES = 15
_QUANTISERS_BY_NUMBER = 19
_COMPONENT_IDS = 23
_COLOURS = 26  # 1: JFIF, 2: Adobe's YCbCr
FRAME_WORDS = 32

_SOI, EOI, _SOS, _DQT, _DHT, _DRI, _SOF0, _SOF1, _APP0, _APP14, _APP15, _COM = (
    0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xC0, 0xC1, 0xE0, 0xEE, 0xEF, 0xFE,
)  # fmt: skip


@njit(inline="always")
def _byte(address):
    return np.int64(load_u8(address))


@njit(inline="always")
def _word(address):
    return np.int64(load_u8(address)) << 8 | np.int64(load_u8(address + 1))


@njit(inline="always")
def is_too_short(size, height, width):
    """Whether so few bytes cannot be a picture of that size: with Huffman codes each 8 x 8 block takes a bit at least.

    Nothing may be allocated for a size that a few bytes only pretend. (A picture of one colour with arithmetic coding
    could take less.)
    """
    return 8 * size < ((height + 7) // 8) * ((width + 7) // 8)


@compiled
def _read_quantisers(frame, start, stop):
    """Segment DQT, tables of 8 bits only."""
    while start + 65 <= stop:
        if _byte(start) > 3:
            return False
        frame[_QUANTISERS_BY_NUMBER + _byte(start)] = start + 1
        start += 65
    return start == stop


@compiled
def _read_huffman_tables(frame, start, stop):
    """Segment DHT: where each table lies."""
    while start + 17 <= stop:
        kind, number = _byte(start) >> 4, _byte(start) & 15
        if kind > 1 or number > 3:
            return False
        count = np.int64(0)
        for length in range(16):
            count += _byte(start + 1 + length)
        if count > 256 or start + 17 + count > stop:
            return False
        frame[(AC_TABLES if kind else DC_TABLES) + number] = start + 1
        start += 17 + count
    return start == stop


@compiled
def _read_application(frame, marker, start, stop):
    """Segments JFIF and Adobe: what they say of colours."""
    if marker == _APP0 and stop - start >= 14:
        if _word(start) == 0x4A46 and _word(start + 2) == 0x4946 and _byte(start + 4) == 0:
            frame[_COLOURS] |= 1
            return _byte(start + 5) == 1
    elif marker == _APP14 and stop - start >= 12:
        if _word(start) == 0x4164 and _word(start + 2) == 0x6F62 and _byte(start + 4) == 0x65:
            frame[_COLOURS] |= 2
            return _byte(start + 11) == 1
    return True


@compiled
def _read_sizes(frame, start, stop, height, width):
    """Segment SOF: 8 bits, the expected size, and a sampling that we know."""
    if frame[COMPONENTS] != 0 or stop - start < 9 or _byte(start) != 8:
        return False
    if _word(start + 1) != height or _word(start + 3) != width:
        return False
    count = _byte(start + 5)
    if (count != 1 and count != 3) or stop - start != 6 + 3 * count:
        return False
    for component in range(count):
        place = start + 6 + 3 * component
        frame[_COMPONENT_IDS + component] = _byte(place)
        horizontal, vertical, number = _byte(place + 1) >> 4, _byte(place + 1) & 15, _byte(place + 2)
        if number > 3:
            return False
        frame[QUANTISERS + component] = number
        if component == 0:
            frame[HORIZONTAL], frame[VERTICAL] = horizontal, vertical
        elif horizontal != 1 or vertical != 1:
            return False
    frame[COMPONENTS] = count
    sampling = 16 * frame[HORIZONTAL] + frame[VERTICAL]
    if count == 1:
        # The blocks of a component alone lie in plain order.
        frame[HORIZONTAL] = frame[VERTICAL] = 1
        return sampling == 0x11 or sampling == 0x21 or sampling == 0x22
    return sampling == 0x11 or sampling == 0x21 or sampling == 0x22


@compiled
def _read_scan(frame, start, stop):
    """Segment SOS: all components in one scan, and all their tables there."""
    count = frame[COMPONENTS]
    if count == 0 or stop - start != 4 + 2 * count or _byte(start) != count:
        return False
    for component in range(count):
        place = start + 1 + 2 * component
        dc, ac = _byte(place + 1) >> 4, _byte(place + 1) & 15
        if _byte(place) != frame[_COMPONENT_IDS + component] or dc > 3 or ac > 3:
            return False
        quantiser = frame[_QUANTISERS_BY_NUMBER + frame[QUANTISERS + component]]
        if quantiser == 0 or frame[DC_TABLES + dc] == 0 or frame[AC_TABLES + ac] == 0:
            return False
        frame[QUANTISERS + component] = quantiser
        frame[TABLE_NUMBERS + component] = 4 * dc + ac
    place = start + 1 + 2 * count
    frame[SCAN_START] = stop
    return _byte(place) == 0 and _byte(place + 1) == 63 and _byte(place + 2) == 0


@compiled
def _has_known_colours(frame):
    """Three components are YCbCr where JFIF or Adobe say so, or by the usual numbers of components."""
    if frame[COMPONENTS] == 1:
        return True
    first, second, third = frame[_COMPONENT_IDS], frame[_COMPONENT_IDS + 1], frame[_COMPONENT_IDS + 2]
    if first in (second, third) or second == third:
        return False
    return frame[_COLOURS] != 0 or (first == 1 and second == 2 and third == 3)


@compiled
def read_frame(data, size, height, width, words):
    """Read the header of `size` bytes at `data` into the frame's words at an address.

    Args:
        data, size: the JPEG's address and bytes.
        height, width: what is expected; another size is declined.
        words: address of `int64[FRAME_WORDS]`, set.

    Returns:
        True where the file is 8-bit baseline (or extended sequential) with Huffman codes, grey or
        YCbCr 4:4:4, 4:2:2 or 4:2:0, all in one scan, and each segment up to the scan is sound.
    """
    frame = array_at(words, (FRAME_WORDS,), np.int64)
    frame[:] = 0
    end = data + size
    if size < 4 or _word(data) != 0xFF00 | _SOI or is_too_short(size, height, width):
        return False
    place = data + 2
    while place + 4 <= end:
        marker, start, stop = _word(place) & 255, place + 4, place + 2 + _word(place + 2)
        if _byte(place) != 0xFF or stop < start or stop > end:
            return False
        sound = False
        if marker == _SOS:
            return _read_scan(frame, start, stop) and _has_known_colours(frame)
        if marker == _DQT:
            sound = _read_quantisers(frame, start, stop)
        elif marker == _DHT:
            sound = _read_huffman_tables(frame, start, stop)
        elif marker in (_SOF0, _SOF1):
            sound = _read_sizes(frame, start, stop, height, width)
        elif marker == _DRI:
            sound = stop - start == 2
            if sound:
                frame[RESTART_INTERVAL] = _word(start)
        elif _APP0 <= marker <= _APP15:
            sound = _read_application(frame, marker, start, stop)
        elif marker == _COM:
            sound = True
        if not sound:
            return False
        place = stop
    return False
