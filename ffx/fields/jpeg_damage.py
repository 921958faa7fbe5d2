"""What is wrong with a JPEG's coded data: most decoders go on without a word, and give grey for what is missing."""

from __future__ import annotations

import ctypes
import re
import warnings

from ..errors import FfxWarning
from ..kernels.jpeg import MOST_SCANS
from ..kernels.turbojpeg import library
from .jpeg_markers import MOST_SEGMENTS, SCAN, segments

__all__ = ["jpeg_damage"]

# Of turbojpeg.h: TJFLAG_STOPONWARNING and TJFLAG_LIMITSCANS, TJERR_WARNING, TJPF_GRAY and TJPF_CMYK, TJCS_CMYK.
_FLAGS = 8192 | 32768
_WARNING = 0
_GRAY, _CMYK = 6, 11
_FIRST_CMYK_COLOURS = 3
_START = b"\xff\xd8\xff"
_DESCRIPTIONS = (*range(0xE0, 0xF0), 0xFE)
# Other warnings are of unusual headers, which change no pixel or all in the same way.
_DAMAGE = ("Corrupt JPEG data", "Premature end")
# What all pixels were decoded without. Nothing can come behind it that this warning, the first, would hide.
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# So few are no sign of anything.
_FEW_LEFT_OVER = 16
# Up to this part of the last scan they may be appended or a sign of codes read wrongly, which cannot be told apart.
# Above, the picture was made without much that may belong to it.
_MOST_LEFT_OVER = 1 / 8
# FF before FF, which the library does not count as left over.
_FILL = re.compile(rb"\xff+(?=\xff)")
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

    Warns:
        FfxWarning: more bytes than usual are left over before the end, too few to call it damage.
    """
    if data[:3] != _START:
        return None
    picture = _Picture(data)
    if picture.scans > MOST_SCANS:
        return f"{picture.scans} scans; encoders make about ten"
    if picture.segments > MOST_SEGMENTS:
        return f"more than {MOST_SEGMENTS} segments; encoders make about ten"
    turbojpeg = _declared()
    if turbojpeg is None:
        return None
    handle = turbojpeg.tjInitDecompress()
    if not handle:
        return None
    try:
        return _found_damage(turbojpeg, handle, picture)
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


class _Picture:
    """A JPEG without what says nothing of its pixels: descriptions, bytes between segments, what follows its end.

    The library tells the first warning only, and those of such bytes would hide damage.

    Attributes:
        size: bytes of the whole file.
        data: the bytes that remain.
        segments: how many there were; nobody looks beyond one more than `MOST_SEGMENTS`.
        scans: how many there are.
        last_scan: the bytes of the last one, its coded data and what is left over.
    """

    def __init__(self, data: bytes) -> None:
        kept = bytearray(data[:2])
        self.segments, self.scans, self.last_scan = 0, 0, b""
        for marker, start, stop in segments(data):
            self.segments += 1
            if self.segments > MOST_SEGMENTS:
                break
            if marker not in _DESCRIPTIONS:
                kept += data[start:stop]
            if marker == SCAN:
                self.scans += 1
                self.last_scan = data[start:stop]
        self.size = len(data)
        self.data = bytes(kept)

    def is_harmless(self, left_over: int) -> bool:
        """Whether so many bytes between the last code and the end mark are no damage; warns where they might be."""
        if left_over <= _FEW_LEFT_OVER:
            return True
        padding = self.last_scan[len(self.last_scan.rstrip(b"\x00\xff")) :]
        counted = len(_FILL.sub(b"", padding + b"\xff")) - 1
        if counted >= left_over:
            # Where much of it was taken for codes it is a hole.
            return counted - left_over <= _FEW_LEFT_OVER
        if left_over > _MOST_LEFT_OVER * len(self.last_scan):
            return False
        warnings.warn(
            f"a JPEG of {self.size} bytes has {left_over} bytes too many before its end; its pixels are stored as "
            "Pillow makes them, but look at it: where data are damaged there may be bytes left over, too",
            FfxWarning,
            stacklevel=2,
        )
        return True


def _found_damage(turbojpeg: ctypes.CDLL, handle: int, picture: _Picture) -> str | None:
    """The first warning in decoding at an eighth of the size, which reads all data and makes few pixels."""
    data = picture.data
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
    harmless = not warning.startswith(_DAMAGE) or (left_over and picture.is_harmless(int(left_over[1])))
    return None if harmless else warning
