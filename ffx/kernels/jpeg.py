"""Decode JPEG to RGB from nogil code: the part that a crop needs, or the whole, by libturbojpeg.

Ordinary files go to a decoder of our own (`ffx.kernels.jpeg_baseline`); what it declines comes back here. A crop of
a JPEG with restart markers reads little beside what lies under it, so damage elsewhere in it stays unseen.

The decompressor's handle is word 0 of the thread's words, made anew for each picture. Decoding is as
accurate as the library can (slow integer DCT, smooth upsampling of chroma), and a warning of the library
(data that end early, a wrong code) counts as damage. The library is never asked for fast upsampling: its version
2.1.92, which the `turbojpeg` package brings, then writes beyond its own memory for some damaged JPEGs.
"""

from __future__ import annotations

import math

import numpy as np

from .compiling import compiled
from .jpeg_baseline import DECLINED, decode_baseline_region
from .jpeg_header import is_too_short
from .memory import copy_bytes, load_i64, scratch, store_i64
from .step import BAD_JPEG, NO_DECODER, NO_MEMORY, OK, OUT_OF_FILE, SIZE_MISMATCH
from .turbojpeg import (
    library_version,
    pack_two,
    tj3_decompress,
    tj3_destroy,
    tj3_get,
    tj3_init,
    tj3_read_header,
    tj3_set,
    tj3_set_crop,
    tj3_set_scale,
    tj_decompress,
    tj_destroy,
    tj_init,
    tj_read_header,
)

__all__ = ["MOST_SCANS", "close_decoder", "decode_region", "decode_scaled", "decode_whole", "release_decoder"]

# Of libturbojpeg's interface (turbojpeg.h).
_INIT_DECOMPRESS = 1
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH, _HEIGHT, _SCAN_LIMIT, _LOSSLESS = 0, 4, 5, 6, 13, 15
_RGB = 0
_V2_FLAGS = 4096 | 8192 | 32768  # accurate DCT, stop on warning, limit scans

_PIXELS_AREA = 1
# A progressive JPEG with more scans is an attack on the decoder's time; encoders make 10 or so.
MOST_SCANS = 500
# Smooth upsampling looks one chroma sample, that is two pixels, beyond a pixel.
_CONTEXT = 2


@compiled
def close_decoder(thread):
    """Destroy the decoder of the thread's words at an address, if there is one."""
    handle = load_i64(thread)
    if handle != 0:
        if library_version() == 3:
            tj3_destroy((handle,))
        else:
            tj_destroy((handle,))
        store_i64(thread, 0)


@compiled
def _fresh_handle(thread):
    """A new decompressor for the thread, 0 where there is no library or no memory.

    An old one would lend a JPEG that lacks tables those of the picture before, and some damage spoils it.
    """
    close_decoder(thread)
    version, handle = library_version(), np.int64(0)
    if version == 3:
        handle = tj3_init((_INIT_DECOMPRESS,))
        if handle != 0:
            tj3_set((handle, _STOP_ON_WARNING, 1))
            tj3_set((handle, _SCAN_LIMIT, MOST_SCANS))
    elif version == 2:
        handle = tj_init(())
    store_i64(thread, handle)
    return handle


@compiled
def _read_header(thread, data, size, height, width):
    """`(status, handle, subsampling)`: OK where the header is sound and has the size that is expected."""
    handle = _fresh_handle(thread)
    if handle == 0:
        return NO_DECODER, handle, np.int64(0)
    if library_version() == 3:
        if tj3_read_header((handle, data, size)) != 0:
            return BAD_JPEG, handle, np.int64(0)
        found_width = tj3_get((handle, _WIDTH))
        found_height = tj3_get((handle, _HEIGHT))
        subsampling = tj3_get((handle, _SUBSAMPLING))
        if tj3_get((handle, _LOSSLESS)) == 1:
            subsampling = np.int64(-1)
    else:
        # For a file of tables alone the library says that all is well, and sets nothing.
        found = np.zeros(4, np.int32)
        start = found.ctypes.data
        if tj_read_header((handle, data, size, start, start + 4, start + 8, start + 12)) != 0:
            return BAD_JPEG, handle, np.int64(0)
        found_width, found_height = np.int64(found[0]), np.int64(found[1])
        if found_width == 0:
            return BAD_JPEG, handle, np.int64(0)
        # Version 2 cannot decode a part.
        subsampling = np.int64(-1)
    if found_width != width or found_height != height:
        return SIZE_MISMATCH, handle, np.int64(0)
    if is_too_short(size, height, width):
        return BAD_JPEG, handle, np.int64(0)
    return OK, handle, subsampling


@compiled
def _decompress(handle, data, size, height, width, target, stride):
    if library_version() == 3:
        failed = tj3_decompress((handle, data, size, target, stride, _RGB))
    else:
        failed = tj_decompress((handle, data, size, target, width, stride, height, _RGB, _V2_FLAGS))
    return OK if failed == 0 else BAD_JPEG


@compiled
def _unit_width(subsampling):
    """Pixels from one iMCU to the next: where a region may begin. 0 if the library does not say."""
    if subsampling == 0 or subsampling == 3 or subsampling == 4 or subsampling == 6:
        return 8
    if subsampling == 1 or subsampling == 2:
        return 16
    if subsampling == 5:
        return 32
    return 0


@compiled
def _region(unit, image_height, image_width, top, left, height, width):
    """The smallest part that can be decoded and whose pixels under the crop equal a full decode's."""
    if unit == 0:
        return np.int64(0), np.int64(0), np.int64(image_height), np.int64(image_width)
    first_row = max(top - _CONTEXT, 0)
    first_column = max(left - _CONTEXT, 0) // unit * unit
    rows = min(top + height + _CONTEXT, image_height) - first_row
    columns = min(left + width + _CONTEXT, image_width) - first_column
    return np.int64(first_row), np.int64(first_column), np.int64(rows), np.int64(columns)


@compiled
def _decode_part(thread, data, size, image_height, image_width, top, left, height, width):
    """`decode_region` by the library alone, for a crop that lies within the image."""
    zero = np.int64(0)
    status, handle, subsampling = _read_header(thread, data, size, image_height, image_width)
    if status != OK:
        return status, zero, zero, zero, zero, zero, zero
    unit = _unit_width(subsampling)
    first_row, first_column, rows, columns = _region(unit, image_height, image_width, top, left, height, width)
    partial = rows != image_height or columns != image_width
    if partial and tj3_set_crop((handle, pack_two(first_column, first_row), pack_two(columns, rows))) != 0:
        # The library declines some parts of some pictures, never the whole.
        partial = False
        first_row, first_column, rows, columns = zero, zero, np.int64(image_height), np.int64(image_width)
    stride = 3 * columns
    address = scratch(thread, _PIXELS_AREA, rows * stride)
    status = NO_MEMORY
    if address != 0:
        status = _decompress(handle, data, size, rows, columns, address, stride)
    return status, address, stride, first_row, first_column, rows, columns


@compiled
def decode_region(thread, data, size, image_height, image_width, top, left, height, width, fast_upsampling=0):
    """Decode the part of a JPEG that covers a crop, into the thread's scratch.

    Its pixels under the crop equal those of a full decode. All arguments are int64.

    Args:
        thread: address of the thread's words.
        data, size: the JPEG's address and bytes.
        image_height, image_width: what the metadata say; the header must agree.
        top, left, height, width: the crop, within the image.
        fast_upsampling: 1 repeats chroma samples instead of blending them, where our own decoder decodes.

    Returns:
        `(status, address, stride_bytes, region_top, region_left, region_height, region_width)`:
        RGB uint8 rows, valid until the thread decodes again.
    """
    zero = np.int64(0)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > image_height or left + width > image_width:
        status, _, _ = _read_header(thread, data, size, image_height, image_width)
        return OUT_OF_FILE if status == OK else status, zero, zero, zero, zero, zero, zero
    found = decode_baseline_region(
        thread, data, size, image_height, image_width, top, left, height, width, np.int64(fast_upsampling)
    )
    if found[0] != DECLINED:
        return found
    return _decode_part(thread, data, size, image_height, image_width, top, left, height, width)


@compiled
def decode_whole(thread, data, size, height, width, target_address, target_stride, fast_upsampling=0):
    """Decode a JPEG of `height` x `width` pixels into RGB uint8 rows; a status (`ffx.kernels.step`)."""
    zero = np.int64(0)
    found = decode_baseline_region(
        thread, data, size, height, width, zero, zero, height, width, np.int64(fast_upsampling)
    )
    if found[0] != DECLINED:
        for row in range(height):
            copy_bytes(target_address + row * target_stride, found[1] + row * found[2], 3 * width)
        return OK
    status, handle, _ = _read_header(thread, data, size, height, width)
    if status != OK:
        return status
    return _decompress(handle, data, size, height, width, target_address, target_stride)


@compiled
def decode_scaled(thread, data, size, image_height, image_width, numerator, denominator):
    """Decode a whole JPEG at `numerator / denominator` of its size, into the thread's scratch.

    The library knows eighths from 1/8 to 16/8; any other fraction is `BAD_JPEG`.

    Returns:
        `(status, address, height, width)`: RGB uint8, rows without gaps; sides are rounded up.
    """
    zero = np.int64(0)
    eighths = 8 * numerator // denominator
    if eighths * denominator != 8 * numerator or eighths < 1 or eighths > 16:
        return BAD_JPEG, zero, zero, zero
    height = (image_height * numerator + denominator - 1) // denominator
    width = (image_width * numerator + denominator - 1) // denominator
    status, handle, _ = _read_header(thread, data, size, image_height, image_width)
    if status != OK:
        return status, zero, zero, zero
    address = scratch(thread, _PIXELS_AREA, 3 * height * width)
    if address == 0:
        return NO_MEMORY, zero, zero, zero
    shared = math.gcd(numerator, denominator)
    fraction = pack_two(numerator // shared, denominator // shared)
    if library_version() == 3 and tj3_set_scale((handle, fraction)) != 0:
        return BAD_JPEG, zero, zero, zero
    status = _decompress(handle, data, size, height, width, address, 3 * width)
    return status, address, np.int64(height), np.int64(width)


def release_decoder(thread: np.ndarray) -> None:
    """Destroy the decoder of a thread's words (`int64[THREAD_WORDS]`), if there is one; safe to call twice."""
    close_decoder(thread.ctypes.data)
