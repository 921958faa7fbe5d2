"""Native steps that make images: find the stored bytes, decode, crop, resize and mirror in one go."""

from __future__ import annotations

from numba import njit

from .compiling import compiled
from .crop import center_crop, random_crop
from .jpeg import decode_region, decode_whole
from .memory import copy_bytes, load_f64, load_u8, load_u16, load_u32, load_u64, scratch
from .resize import resize_crop
from .rng import uniform
from .step import (
    METADATA,
    METADATA_BYTES,
    NO_MEMORY,
    OCCURRENCES,
    OK,
    OUT_OF_FILE,
    OWN,
    RANDOM_KEY,
    SAMPLE_IDS,
    SIZE_MISMATCH,
    STORAGE,
    TARGET,
    TARGET_BYTES,
    UNKNOWN_MODE,
    failure,
    locate,
    native_kernel,
    word,
)
from .taps import AREA
from .yuv import resize_crop_yuv420, yuv420_bytes

__all__ = [
    "CENTER_CROP",
    "FAST_UPSAMPLING",
    "FLIP_KEY",
    "FLIP_PROBABILITY",
    "INTERPOLATION",
    "JPEG_MODE",
    "OWN_WORDS",
    "RANDOM_CROP",
    "RAW_MODE",
    "YUV420_MODE",
    "decode_cropped_images",
    "decode_whole_images",
    "private_copy",
]

JPEG_MODE = 0
RAW_MODE = 1
YUV420_MODE = 2

# Scratch area of a thread: 0 is the resize's, 1 the decoded picture's.
COPY_AREA = 2

RANDOM_CROP = 0
CENTER_CROP = 1

# The kernel's own words, counted from `step.OWN`. Floats are stored as their bits.
HEIGHT = 0
WIDTH = 1
CROP = 2  # RANDOM_CROP or CENTER_CROP
SMALLEST = 3  # RANDOM_CROP: least share of the area; CENTER_CROP: share of the shorter side
LARGEST = 4
LOG_NARROW = 5
LOG_WIDE = 6
FLIP_PROBABILITY = 7
FLIP_KEY = 8
INTERPOLATION = 9  # AREA, ANTIALIAS or BILINEAR of `ffx.kernels.taps`
FAST_UPSAMPLING = 10  # 1: chroma samples are repeated, 0: blended
OWN_WORDS = 11


@njit(inline="always")
def _own(step, index):
    return word(step, OWN + index)


@njit(inline="always")
def _own_float(step, index):
    return load_f64(step + 8 * (OWN + index))


@compiled
def _record(step, sample):
    """An image's metadata, packed: `(mode, width, height, pointer)`."""
    record = word(step, METADATA) + sample * word(step, METADATA_BYTES)
    mode = int(load_u8(record))
    width = int(load_u16(record + 1))
    height = int(load_u16(record + 3))
    return mode, width, height, load_u64(record + 5)


@njit(inline="always")
def _stored_bytes(mode, height, width):
    """What an image takes in the file, or -1 where only the allocation table says so."""
    if mode == RAW_MODE:
        return 3 * width * height
    return yuv420_bytes(height, width) if mode == YUV420_MODE else -1


@compiled
def _crop_for(step, height, width, sample, occurrence):
    if _own(step, CROP) == CENTER_CROP:
        return center_crop(height, width, _own_float(step, SMALLEST))
    return random_crop(
        height,
        width,
        _own_float(step, SMALLEST),
        _own_float(step, LARGEST),
        _own_float(step, LOG_NARROW),
        _own_float(step, LOG_WIDE),
        word(step, RANDOM_KEY),
        sample,
        occurrence,
    )


@compiled
def private_copy(thread, data, size):
    """Address of a copy of stored bytes in the thread's scratch memory, 0 where there is no room.

    The library reads a JPEG's header twice, once for its size and once to decode. A mapped file may
    change in between; the copy cannot, so what was checked is what is decoded.
    """
    copy = scratch(thread, COPY_AREA, size)
    if copy != 0:
        copy_bytes(copy, data, size)
    return copy


@compiled
def _decode_cropped(step, position, thread):
    sample = int(load_u64(word(step, SAMPLE_IDS) + 8 * position))
    occurrence = int(load_u32(word(step, OCCURRENCES) + 4 * position))
    mode, width, height, pointer = _record(step, sample)
    if mode > YUV420_MODE:
        return UNKNOWN_MODE
    data, size = locate(word(step, STORAGE), pointer, _stored_bytes(mode, height, width))
    if data == 0 or width == 0 or height == 0:
        return OUT_OF_FILE
    top, left, crop_height, crop_width = _crop_for(step, height, width, sample, occurrence)
    flip = 0
    probability = _own_float(step, FLIP_PROBABILITY)
    if probability > 0.0 and uniform(_own(step, FLIP_KEY), sample, occurrence, 0) < probability:
        flip = 1
    target = word(step, TARGET) + position * word(step, TARGET_BYTES)
    if mode == YUV420_MODE:
        return resize_crop_yuv420(
            data, height, width, top, left, crop_height, crop_width,
            target, _own(step, HEIGHT), _own(step, WIDTH), flip, _own(step, INTERPOLATION), thread,
        )  # fmt: skip
    stride = 3 * width
    if mode == JPEG_MODE:
        data = private_copy(thread, data, size)
        if data == 0:
            return NO_MEMORY
        status, data, stride, region_top, region_left, height, width = decode_region(
            thread, data, size, height, width, top, left, crop_height, crop_width, _own(step, FAST_UPSAMPLING)
        )
        if status != OK:
            return status
        top -= region_top
        left -= region_left
    return resize_crop(
        data,
        stride,
        height,
        width,
        top,
        left,
        crop_height,
        crop_width,
        target,
        _own(step, HEIGHT),
        _own(step, WIDTH),
        flip,
        _own(step, INTERPOLATION),
        thread,
    )


@native_kernel
def decode_cropped_images(step, first, stop, thread):
    """RGB uint8 `(HEIGHT, WIDTH, 3)` of a crop of each stored image."""
    for position in range(first, stop):
        status = _decode_cropped(step, position, thread)
        if status != OK:
            return failure(position, status)
    return OK


@compiled
def _decode_whole(step, position, thread):
    sample = int(load_u64(word(step, SAMPLE_IDS) + 8 * position))
    mode, width, height, pointer = _record(step, sample)
    if mode > YUV420_MODE:
        return UNKNOWN_MODE
    if height != _own(step, HEIGHT) or width != _own(step, WIDTH):
        return SIZE_MISMATCH
    data, size = locate(word(step, STORAGE), pointer, _stored_bytes(mode, height, width))
    if data == 0:
        return OUT_OF_FILE
    target = word(step, TARGET) + position * word(step, TARGET_BYTES)
    if mode == JPEG_MODE:
        data = private_copy(thread, data, size)
        if data == 0:
            return NO_MEMORY
        return decode_whole(thread, data, size, height, width, target, 3 * width)
    if mode == YUV420_MODE:
        return resize_crop_yuv420(data, height, width, 0, 0, height, width, target, height, width, 0, AREA, thread)
    copy_bytes(target, data, size)
    return OK


@native_kernel
def decode_whole_images(step, first, stop, thread):
    """RGB uint8 `(HEIGHT, WIDTH, 3)` of each stored image, all of which have that size."""
    for position in range(first, stop):
        status = _decode_whole(step, position, thread)
        if status != OK:
            return failure(position, status)
    return OK
