"""JPEGs in tiles, for writing: which restart interval a picture gets, and giving it to a JPEG without loss.

`ffx.kernels.tiles` says what tiles are and how a crop profits from them. Every decoder reads such a JPEG.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import FieldError
from ..kernels.forward_dct import divisors
from ..kernels.jpeg_encode import encode_jpeg, zigzag_order
from ..kernels.jpeg_header import is_too_short
from ..kernels.retile import retile
from ..kernels.tiles import tile_layout
from ..kernels.turbojpeg import library
from .pixels import decoded_strictly, probe, workspace_address

__all__ = ["encode_in_tiles", "encode_untiled", "retiled", "tile_interval", "tiled"]

# By an MCU's width in pixels: how many a tile may have, the best first.
_INTERVALS = {16: (2, 3), 8: (4, 6, 5, 3, 7, 2)}
_BASELINE, _PROGRESSIVE, _SCAN, _QUANTISERS = 0xC0, 0xC2, 0xDA, 0xDB
_MOST_SIDE = 65500  # pixels that libjpeg takes; OpenCV says what is wrong with more
# Of the components of a JPEG of 4:2:0 as libjpeg numbers them: number, sampling factors, table of quantisers.
_COMPONENTS = bytes((3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1))
_LIMIT_SCANS = 32768  # TJFLAG_LIMITSCANS of turbojpeg.h: at most 500
_DESCRIPTIONS = (*range(0xE0, 0xF0), 0xFE)


def tile_interval(units_across: int, unit_width: int) -> int:
    """MCUs a tile for a picture of so many MCUs of `unit_width` pixels a row: tiles of about 32 pixels that divide it.

    With the usual MCUs of 16 pixels that is 2 or else 3, with those of 8 pixels it is 4, 6, 5, 3, 7 or 2; where none
    divides the row it is 1.

    Measured on photographs of at most 400 and 500 pixels at quality 90 (4:2:0): narrower tiles read faster, each
    restart costs a byte or two. From 4 MCUs to 2 a random crop gains 3 %, from 5 or more to 1 it gains 8 %
    and more, while the file grows by 1 to 3 %; from 2 to 1 it gains 1 % for 2 % of the bytes.
    JPEGs of ImageNet as they come, 4:4:4 with MCUs of 8 pixels: 3 MCUs 41 % for 3 % of the bytes, 7 MCUs 34 % for 1 %.
    """
    for interval in _INTERVALS.get(unit_width, ()):
        if units_across % interval == 0:
            return interval
    return 1


def tiled(jpeg: np.ndarray) -> np.ndarray | None:
    """`uint8[m]`: a baseline JPEG (`uint8[n]`) in tiles, with the best Huffman codes and the same coefficients.

    `None` where it is of another kind (progressive, in several scans, unusual subsampling) or not sound.
    """
    # A copy, which nobody changes meanwhile and which can be written to: numba would compile anew for one that cannot.
    jpeg = np.array(jpeg, np.uint8)
    scan, _, _, unit_width, _, width = tile_layout(jpeg.ctypes.data, jpeg.size)
    if scan == 0 or width == 0:
        return None
    result = retile(jpeg, tile_interval(-(-width // unit_width), unit_width))
    return result if result.size else None


def encode_untiled(image: np.ndarray, quality: int) -> np.ndarray:
    """`uint8[n]`: an RGB image `uint8[height, width, 3]` as JPEG, by OpenCV as FFCV does it.

    Raises:
        FieldError: OpenCV does not encode it.
    """
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise FieldError(f"OpenCV could not encode an image of shape {image.shape} as JPEG")
    return encoded.reshape(-1)


@dataclass(frozen=True)
class _Header:
    """What OpenCV writes before a picture's coded data at one quality.

    Attributes:
        data: uint8[n], of a picture of another size.
        scan: bytes of it before the coded data.
        size: where in it height and width stand.
        divisors: uint16[2, 3, 64], see `ffx.kernels.forward_dct.divisors`.
    """

    data: np.ndarray
    scan: int
    size: int
    divisors: np.ndarray


def _read_header(jpeg: np.ndarray) -> _Header | None:
    """The header of a JPEG; `None` where it is not one of 8-bit 4:2:0 with the usual tables."""
    segments, rest = _segments(jpeg.tobytes())
    tables: dict[int, np.ndarray] = {}
    place, size = 2, 0
    natural = zigzag_order()[0]
    for segment in segments:
        if segment[1] == _QUANTISERS:
            if len(segment) != 4 + 65 or segment[4] > 1:
                return None
            tables[segment[4]] = np.empty(64, np.uint8)
            tables[segment[4]][natural] = np.frombuffer(segment, np.uint8)[5:]
        elif segment[1] == _BASELINE and segment[4] == 8 and segment[9:] == _COMPONENTS:
            size = place + 5
        place += len(segment)
    if not size or set(tables) != {0, 1}:
        return None
    scan = place + 2 + int.from_bytes(rest[2:4], "big")
    return _Header(jpeg, scan, size, np.stack([divisors(tables[number]) for number in range(2)]))


def _encode(image: np.ndarray, header: _Header) -> np.ndarray:
    height, width = image.shape[:2]
    data = header.data.copy()
    data[header.size : header.size + 4] = (height >> 8, height & 255, width >> 8, width & 255)
    interval = tile_interval(-(-width // 16), 16)
    return encode_jpeg(data, header.scan, image, header.divisors, zigzag_order(), interval, workspace_address())


@functools.cache
def _header_for(quality: int) -> _Header | None:
    """What `_encode` needs for a quality, if it then makes the coefficients that OpenCV makes; else `None`."""
    picture = probe(37, 75)
    encoded = encode_untiled(picture, quality)
    try:
        header = _read_header(encoded)
    except (IndexError, ValueError):
        return None
    expected = tiled(encoded)
    return header if header is not None and np.array_equal(_encode(picture, header), expected) else None


def encode_in_tiles(image: np.ndarray, quality: int) -> np.ndarray:
    """`uint8[n]`: an RGB image `uint8[height, width, 3]` as JPEG in tiles, of OpenCV's coefficients.

    Raises:
        FieldError: OpenCV does not encode it; it is asked where its coefficients are not those made here, and
            for pictures that are too large.
    """
    header = _header_for(quality)
    if header is not None and max(image.shape[:2]) <= _MOST_SIDE:
        # Pillow's pixels are read-only, for which numba would compile everything once more.
        encoded = _encode(np.require(image, np.uint8, ["C", "W"]), header)
        if encoded.size:
            return encoded
    encoded = encode_untiled(image, quality)
    result = tiled(encoded)
    return encoded if result is None else result


def _segments(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """The segments before a JPEG's first scan, and the rest; the JPEG has been decoded before."""
    found, position = [], 2
    while jpeg[position + 1] != _SCAN:
        # Fill bytes and markers without a length are rare there, and not worth their own case.
        if jpeg[position] != 0xFF or jpeg[position + 1] == 0xFF or 0xD0 <= jpeg[position + 1] <= 0xD9:
            raise ValueError("a JPEG's header of an unusual form")
        stop = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        found.append(jpeg[position:stop])
        position = stop
    return found, jpeg[position:]


def _with_descriptions_of(original: bytes, changed: bytes) -> np.ndarray | None:
    """`changed` with the applications' segments and comments of `original`: some versions of the library drop them."""
    try:
        (before, _), (after, scan) = _segments(original), _segments(changed)
    except (IndexError, ValueError):
        return None
    descriptions = [segment for segment in before if segment[1] in _DESCRIPTIONS]
    needed = [segment for segment in after if segment[1] not in _DESCRIPTIONS]
    return np.frombuffer(b"".join([b"\xff\xd8", *descriptions, *needed, scan]), np.uint8)


def _sequential(jpeg: np.ndarray) -> np.ndarray | None:
    """A progressive JPEG as a baseline one with the same coefficients, by libturbojpeg; `None` where that fails."""
    library_in_use = library()
    names = ("tjInitTransform", "tjTransform", "tjDestroy", "tjFree")
    if library_in_use is None or not all(hasattr(library_in_use, name) for name in names):
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    make, transform, destroy, free = (getattr(library_in_use, name) for name in names)
    make.restype, make.argtypes = pointer, []
    transform.restype = number
    transform.argtypes = [pointer, pointer, ctypes.c_ulong, number, pointer, pointer, pointer, number]
    destroy.argtypes, free.argtypes, free.restype = [pointer], [pointer], None
    handle = make()
    if not handle:
        return None
    target, size = pointer(), ctypes.c_ulong()
    # A tjtransform of zeros: a region of four ints, operation none, no options, no filter.
    nothing = (ctypes.c_char * 64)()
    try:
        addresses = (ctypes.addressof(value) for value in (target, size, nothing))
        if transform(handle, jpeg.ctypes.data, jpeg.size, 1, *addresses, _LIMIT_SCANS) != 0 or not target.value:
            return None
        return _with_descriptions_of(bytes(jpeg), ctypes.string_at(target.value, size.value))
    finally:
        free(target)
        destroy(handle)


def retiled(jpeg: np.ndarray, height: int, width: int, frame: int) -> np.ndarray | None:
    """A JPEG that came from elsewhere in tiles, `None` where that cannot be done safely.

    Args:
        jpeg: `uint8[n]`.
        height, width: of its picture, in pixels.
        frame: the number of its frame marker; progressive ones are made baseline first.

    Returns:
        `uint8[m]` of the same coefficients, which the loader's decoder has decoded. Where the library took part,
        its pixels were compared, too.
    """
    if is_too_short(jpeg.size, height, width):
        return None
    if frame != _PROGRESSIVE:
        result = tiled(jpeg)
        return result if result is not None and decoded_strictly(result, height, width) is not None else None
    plain = _sequential(jpeg)
    result = None if plain is None else tiled(plain)
    if result is None:
        return None
    before, after = decoded_strictly(jpeg, height, width), decoded_strictly(result, height, width, "retiled")
    return result if before is not None and after is not None and np.array_equal(before, after) else None
