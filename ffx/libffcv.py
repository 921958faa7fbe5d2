"""FFCV's native helpers, for fields and transforms that call them from their own kernels.

Names, argument order and results are FFCV's, all but those of `resize_crop_yuv420`, which FFCV lacks. Each is
a compiled dispatcher that runs without the GIL, so it works in plain Python, in a user's `njit` code and through
`Compiler.compile`. They check what they are given: where FFCV would write past the end of an array, these raise
`ValueError`.

Whatever types they are called with, kernels get int64: numba would compile all of them anew for each other type.
"""

from __future__ import annotations

import numpy as np
from numba import types

from .kernels import resize, yuv
from .kernels.compiling import compiled
from .kernels.jpeg import close_decoder, decode_region, decode_scaled, decode_whole
from .kernels.memory import THREAD_WORDS, copy_bytes, free_scratch
from .kernels.step import BAD_JPEG, OK
from .kernels.taps import AREA

__all__ = ["ctypes_resize", "imdecode", "memcpy", "read", "resize_crop", "resize_crop_yuv420"]

_pread = types.ExternalFunction("pread", types.int64(types.int32, types.int64, types.int64, types.int64))


@compiled
def memcpy(source: np.ndarray, dest: np.ndarray) -> None:
    """Copy the bytes of a contiguous array to the beginning of another; dtypes and shapes may differ.

    Raises:
        ValueError: `dest` has fewer bytes than `source`.
    """
    count = source.size * source.itemsize
    if dest.size * dest.itemsize < count:
        raise ValueError("memcpy: the destination has fewer bytes than the source")
    copy_bytes(dest.ctypes.data, source.ctypes.data, count)


@compiled
def read(fileno: int, destination: np.ndarray, offset: int) -> int:
    """Read a file descriptor from `offset` into a contiguous array, until it is full or the file ends.

    Returns:
        The number of bytes read, or -1 for an error of the system.
    """
    count = np.int64(destination.size * destination.itemsize)
    address = destination.ctypes.data
    done = np.int64(0)
    while done < count:
        part = _pread(fileno, address + done, count - done, offset + done)
        if part < 0:
            return np.int64(-1)
        if part == 0:
            break
        done += part
    return done


@compiled
def _copy_pixels(source, stride, height, width, flip, target):
    """Rows of RGB pixels to a place without gaps, mirrored if `flip`."""
    for row in range(height):
        place, line = source + row * stride, target + 3 * width * row
        if not flip:
            copy_bytes(line, place, 3 * width)
            continue
        for column in range(width):
            copy_bytes(line + 3 * column, place + 3 * (width - 1 - column), 3)


@compiled
def _decode(thread, data, size, height, width, crop, scale, flip, target, fast_upsampling):
    """Decode `crop` (top, left, height, width; of the mirrored image if `flip`); a status."""
    top, left, crop_height, crop_width = crop
    numerator, denominator = scale
    if flip:
        left = width - left - crop_width
    if top < 0 or left < 0 or crop_height < 1 or crop_width < 1:
        return BAD_JPEG
    if top + crop_height > height or left + crop_width > width:
        return BAD_JPEG
    if numerator != denominator:
        status, address, scaled_height, scaled_width = decode_scaled(
            thread, data, size, height, width, numerator, denominator
        )
        rows = (crop_height * numerator + denominator - 1) // denominator
        columns = (crop_width * numerator + denominator - 1) // denominator
        top = min(top * numerator // denominator, scaled_height - rows)
        left = min(left * numerator // denominator, scaled_width - columns)
        if status == OK:
            _copy_pixels(address + 3 * (top * scaled_width + left), 3 * scaled_width, rows, columns, flip, target)
        return status
    if crop_height == height and crop_width == width and not flip:
        return decode_whole(thread, data, size, height, width, target, 3 * width, fast_upsampling)
    status, address, stride, first_row, first_column, _, _ = decode_region(
        thread, data, size, height, width, top, left, crop_height, crop_width, fast_upsampling
    )
    if status == OK:
        place = address + (top - first_row) * stride + 3 * (left - first_column)
        _copy_pixels(place, stride, crop_height, crop_width, flip, target)
    return status


@compiled
def _decode_alone(data, size, height, width, crop, scale, flip, target, fast_upsampling):
    """`_decode` with a decoder of its own: making one is cheap beside decoding, and needs no lock."""
    words = np.zeros(THREAD_WORDS, np.int64)
    thread = np.int64(words.ctypes.data)
    status = _decode(thread, data, size, height, width, crop, scale, flip, target, fast_upsampling)
    close_decoder(thread)
    free_scratch(thread)
    # The words live until here: numba would free them after their last use.
    return status if words[0] == 0 else BAD_JPEG


@compiled
def imdecode(
    source: np.ndarray,
    dst: np.ndarray,
    source_height: int,
    source_width: int,
    crop_height: int | None = None,
    crop_width: int | None = None,
    offset_x: int = 0,
    offset_y: int = 0,
    scale_factor_num: int = 1,
    scale_factor_denom: int = 1,
    enable_crop: bool = False,
    do_flip: bool = False,
    fast_upsampling: bool = False,
) -> int:
    """Decode a JPEG, or a part of it, to RGB uint8 at the beginning of `dst`, rows without gaps.

    Args:
        source: the JPEG's bytes, uint8, contiguous.
        dst: contiguous; at least 3 bytes a decoded pixel.
        source_height, source_width: the JPEG's size; another size in its header is an error.
        crop_height, crop_width: size of the part before scaling; the whole image by default.
        offset_x, offset_y: where the part begins, any pixel; in the mirrored image if `do_flip`.
        scale_factor_num, scale_factor_denom: a fraction of eighths, up to 16/8; sides are rounded up.
        enable_crop: without it, and without `do_flip`, the part begins at (0, 0).
        do_flip: mirror left and right.
        fast_upsampling: repeat chroma samples of ordinary JPEGs instead of blending them, at the whole size only
            (ffx's own).

    Returns:
        0, or -1 where the data are damaged, the sizes disagree or there is no libturbojpeg.

    Raises:
        ValueError: `dst` is too small.
    """
    height, width = np.int64(source_height), np.int64(source_width)
    if crop_height is None:
        rows = height
    else:
        rows = np.int64(crop_height)
    if crop_width is None:
        columns = width
    else:
        columns = np.int64(crop_width)
    top, left = np.int64(0), np.int64(0)
    if enable_crop or do_flip:
        top, left = np.int64(offset_y), np.int64(offset_x)
    scale = (np.int64(scale_factor_num), np.int64(scale_factor_denom))
    if scale[0] < 1 or scale[1] < 1:
        return -1
    needed = 3 * ((rows * scale[0] + scale[1] - 1) // scale[1]) * ((columns * scale[0] + scale[1] - 1) // scale[1])
    if dst.size * dst.itemsize < needed:
        raise ValueError("imdecode: the destination is too small for the decoded image")
    data, target = np.int64(source.ctypes.data), np.int64(dst.ctypes.data)
    crop = (top, left, rows, columns)
    failed = _decode_alone(
        data, np.int64(source.size), height, width, crop, scale, np.int64(do_flip), target, np.int64(fast_upsampling)
    )
    return 0 if failed == OK else -1


@compiled
def _resize_alone(source, stride, height, width, crop, target, target_height, target_width, interpolation):
    """`kernels.resize.resize_crop` with scratch memory of its own; a status."""
    top, left, crop_height, crop_width = crop
    words = np.zeros(THREAD_WORDS, np.int64)
    thread = np.int64(words.ctypes.data)
    status = resize.resize_crop(
        source,
        stride,
        height,
        width,
        top,
        left,
        crop_height,
        crop_width,
        target,
        target_height,
        target_width,
        np.int64(0),
        interpolation,
        thread,
    )
    free_scratch(thread)
    return status if words[0] == 0 else BAD_JPEG


@compiled
def resize_crop(
    source: np.ndarray,
    start_row: int,
    end_row: int,
    start_col: int,
    end_col: int,
    destination: np.ndarray,
    interpolation: int = AREA,
) -> None:
    """Resize rows `start_row … end_row - 1` and columns `start_col … end_col - 1` of an image to fill another.

    Both are RGB uint8 `(height, width, 3)`; rows of the source may lie apart, the destination is contiguous.
    Weights are those of OpenCV's `INTER_AREA`, unless `interpolation` is `ANTIALIAS` or `BILINEAR` of
    `ffx.kernels.taps`.

    Raises:
        ValueError: the part reaches over the image's edge or is empty, or an array is not such an image.
    """
    if source.itemsize != 1 or source.shape[2] != 3 or source.strides[1] != 3 or source.strides[2] != 1:
        raise ValueError("resize_crop: the source must be uint8 (height, width, 3) with pixels side by side")
    height, width = np.int64(destination.shape[0]), np.int64(destination.shape[1])
    if destination.size * destination.itemsize != 3 * height * width:
        raise ValueError("resize_crop: the destination must be uint8 (height, width, 3)")
    crop = (np.int64(start_row), np.int64(start_col), np.int64(end_row - start_row), np.int64(end_col - start_col))
    status = _resize_alone(
        np.int64(source.ctypes.data),
        np.int64(source.strides[0]),
        np.int64(source.shape[0]),
        np.int64(source.shape[1]),
        crop,
        np.int64(destination.ctypes.data),
        height,
        width,
        np.int64(interpolation),
    )
    if status != OK:
        raise ValueError("resize_crop: the rows and columns must lie within the source and not be empty")


@compiled
def _resize_yuv420_alone(source, height, width, crop, target, target_height, target_width, interpolation):
    """`kernels.yuv.resize_crop_yuv420` with scratch memory of its own; a status."""
    top, left, crop_height, crop_width = crop
    words = np.zeros(THREAD_WORDS, np.int64)
    thread = np.int64(words.ctypes.data)
    status = yuv.resize_crop_yuv420(
        source, height, width, top, left, crop_height, crop_width,
        target, target_height, target_width, np.int64(0), interpolation, thread,
    )  # fmt: skip
    free_scratch(thread)
    return status if words[0] == 0 else BAD_JPEG


@compiled
def resize_crop_yuv420(
    source: np.ndarray,
    height: int,
    width: int,
    start_row: int,
    end_row: int,
    start_col: int,
    end_col: int,
    destination: np.ndarray,
    interpolation: int,
) -> None:
    """`resize_crop` of an image that is stored as planar YUV 4:2:0 (`docs/format.md`), to RGB.

    Args:
        source: uint8, contiguous: the planes, one behind the other.
        height, width: of the image, in pixels.
        interpolation: `AREA`, `ANTIALIAS` or `BILINEAR` of `ffx.kernels.taps`.

    Raises:
        ValueError: the planes have another size, the part reaches over the image's edge or is empty, or the
            destination is no RGB image.
    """
    whole = (np.int64(height), np.int64(width))
    if source.size * source.itemsize != yuv.yuv420_bytes(whole[0], whole[1]):
        raise ValueError("a stored image's size differs from its metadata")
    rows, columns = np.int64(destination.shape[0]), np.int64(destination.shape[1])
    if destination.size * destination.itemsize != 3 * rows * columns:
        raise ValueError("resize_crop_yuv420: the destination must be uint8 (height, width, 3)")
    crop = (np.int64(start_row), np.int64(start_col), np.int64(end_row - start_row), np.int64(end_col - start_col))
    status = _resize_yuv420_alone(
        np.int64(source.ctypes.data),
        whole[0],
        whole[1],
        crop,
        np.int64(destination.ctypes.data),
        rows,
        columns,
        np.int64(interpolation),
    )
    if status != OK:
        raise ValueError("resize_crop_yuv420: the rows and columns must lie within the source and not be empty")


@compiled
def ctypes_resize(
    cresizer: int,
    source_p: int,
    sx: int,
    sy: int,
    start_row: int,
    end_row: int,
    start_col: int,
    end_col: int,
    dest_p: int,
    tx: int,
    ty: int,
) -> None:
    """`resize_crop` by addresses: a contiguous `sx` rows by `sy` columns to `tx` rows by `ty` columns.

    `cresizer` is not used, as in FFCV.

    Raises:
        ValueError: the part reaches over the image's edge or is empty.
    """
    crop = (np.int64(start_row), np.int64(start_col), np.int64(end_row - start_row), np.int64(end_col - start_col))
    status = _resize_alone(
        np.int64(source_p),
        np.int64(3 * sy),
        np.int64(sx),
        np.int64(sy),
        crop,
        np.int64(dest_p),
        np.int64(tx),
        np.int64(ty),
        np.int64(AREA),
    )
    if status != OK:
        raise ValueError("ctypes_resize: the rows and columns must lie within the source and not be empty")
