"""What is wrong with a JPEG's coded data: most decoders go on without a word, and give grey for what is missing."""

from __future__ import annotations

import ctypes
import re

from ..kernels.jpeg import MOST_SCANS
from ..kernels.turbojpeg import library

__all__ = ["jpeg_damage"]

# Of turbojpeg.h: TJFLAG_STOPONWARNING and TJFLAG_LIMITSCANS, TJERR_WARNING, TJPF_GRAY and TJPF_CMYK, TJCS_CMYK.
_FLAGS = 8192 | 32768
_WARNING = 0
_GRAY, _CMYK = 6, 11
_FIRST_CMYK_COLOURS = 3
_START, _SCAN = b"\xff\xd8\xff", b"\xff\xda"
_DESCRIPTIONS = (*range(0xE0, 0xF0), 0xFE)
# Other warnings are of unusual headers, which change no pixel or all in the same way.
_DAMAGE = ("Corrupt JPEG data", "Premature end")
# Encoders may leave some bytes over before the end, as padding; where it is many, codes were read wrongly.
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_LEFT_OVER = 16
_FUNCTIONS = (
    "tjInitDecompress", "tjDestroy", "tjDecompressHeader3", "tjDecompress2", "tjGetErrorCode", "tjGetErrorStr2",
)  # fmt: skip


def jpeg_damage(data: bytes) -> str | None:
    """What libturbojpeg warns of in a JPEG: where its data end early, are wrong, or are an attack on a decoder's time.

    Args:
        data: an encoded image of any format.

    Returns:
        The warning; `None` where there is none, where the bytes are no JPEG or of a kind that the library refuses
        (and so does Pillow, or knows better), and where there is no library.
    """
    if data[:3] != _START:
        return None
    # Markers do not occur in coded data; a preview in the header has few.
    scans = data.count(_SCAN)
    if scans > MOST_SCANS:
        return f"{scans} scans; encoders make about ten"
    turbojpeg = _declared()
    if turbojpeg is None:
        return None
    handle = turbojpeg.tjInitDecompress()
    if not handle:
        return None
    try:
        return _found_damage(turbojpeg, handle, _without_descriptions(data))
    finally:
        turbojpeg.tjDestroy(handle)


def _declared() -> ctypes.CDLL | None:
    """The library, if it has what is called here."""
    turbojpeg = library()
    if turbojpeg is None or not all(hasattr(turbojpeg, name) for name in _FUNCTIONS):
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    turbojpeg.tjInitDecompress.restype, turbojpeg.tjInitDecompress.argtypes = pointer, []
    turbojpeg.tjDestroy.argtypes = [pointer]
    turbojpeg.tjDecompressHeader3.argtypes = [pointer, ctypes.c_char_p, ctypes.c_ulong, *[pointer] * 4]
    turbojpeg.tjDecompress2.argtypes = [pointer, ctypes.c_char_p, ctypes.c_ulong, pointer, *[number] * 5]
    turbojpeg.tjGetErrorCode.argtypes = turbojpeg.tjGetErrorStr2.argtypes = [pointer]
    turbojpeg.tjGetErrorStr2.restype = ctypes.c_char_p
    return turbojpeg


def _without_descriptions(data: bytes) -> bytes:
    """A JPEG without the segments of applications and comments before its first scan.

    The library tells the first warning only, and those of such segments say nothing of the coded data.
    """
    kept, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] not in (0xFF, _SCAN[1]):
        stop = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] not in _DESCRIPTIONS:
            kept.append(data[place:stop])
        place = stop
    return b"".join([*kept, data[place:]])


def _found_damage(turbojpeg: ctypes.CDLL, handle: int, data: bytes) -> str | None:
    """The first warning in decoding at an eighth of the size, which reads all data and makes few pixels."""
    words = (ctypes.c_int * 4)()
    places = [ctypes.addressof(words) + ctypes.sizeof(ctypes.c_int) * word for word in range(4)]
    failed = turbojpeg.tjDecompressHeader3(handle, data, len(data), *places) != 0
    width, height, _, colours = words
    if not failed and width > 0 and height > 0:
        if 8 * len(data) < -(-width // 8) * -(-height // 8):
            return f"{len(data)} bytes cannot be {width} x {height} pixels"
        width, height = -(-width // 8), -(-height // 8)
        kind, each = (_CMYK, 4) if colours >= _FIRST_CMYK_COLOURS else (_GRAY, 1)
        pixels = (ctypes.c_char * (width * height * each))()
        target = (ctypes.addressof(pixels), width, width * each, height, kind, _FLAGS)
        failed = turbojpeg.tjDecompress2(handle, data, len(data), *target) != 0
    if not failed or turbojpeg.tjGetErrorCode(handle) != _WARNING:
        return None
    warning = turbojpeg.tjGetErrorStr2(handle).decode("ascii", "replace")
    left_over = _LEFT_OVER.search(warning)
    harmless = not warning.startswith(_DAMAGE) or (left_over and int(left_over[1]) <= _MOST_LEFT_OVER)
    return None if harmless else warning
