"""Native steps that make images: find the stored bytes, decode, crop, resize and mirror in one go.

A JPEG decoder and a resize of planes take long to compile, so there is a kernel for each set of image modes that
files usually have, made of the same parts: raw images alone; JPEG and raw (a JPEG's pixels are resized as raw ones
are); planar YUV alone; and any. What a file has is seen when the loader is made (`cropping_kernel`, `whole_kernel`). A
mode that the kernel does not know, since the mapped file has changed meanwhile, is an error like any other.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .compiling import compiled
from .jpeg import decode_region, decode_whole
from .memory import copy_bytes, scratch
from .resize import resize_crop
from .sample import own, sample_id, target_of
from .step import (
    NO_MEMORY,
    OK,
    OUT_OF_FILE,
    SIZE_MISMATCH,
    STORAGE,
    UNKNOWN_MODE,
    NativeKernel,
    failure,
    locate,
    native_kernel,
    word,
)
from .stored_image import (
    FAST_UPSAMPLING,
    HEIGHT,
    INTERPOLATION,
    JPEG_MODE,
    RAW_MODE,
    WIDTH,
    YUV420_MODE,
    choose_part,
    read_record,
    stored_bytes,
)
from .taps import AREA
from .yuv import resize_crop_yuv420

__all__ = ["cropping_kernel", "whole_kernel"]

# The modes that a kernel knows, a bit for each.
_RAW = 1 << RAW_MODE
_RGB = _RAW | 1 << JPEG_MODE
_YUV420 = 1 << YUV420_MODE
_ANY = _RGB | _YUV420

# Scratch area of a thread: 0 is the resize's, 1 the decoded picture's.
COPY_AREA = 2


@compiled
def _private_copy(thread, data, size):
    """Address of a copy of stored bytes in the thread's scratch memory, 0 where there is no room.

    The library reads a JPEG's header twice, once for its size and once to decode. A mapped file may
    change in between; the copy cannot, so what was checked is what is decoded.
    """
    copy = scratch(thread, COPY_AREA, size)
    if copy != 0:
        copy_bytes(copy, data, size)
    return copy


@compiled
def _find(step, position, known):
    """Where an image lies: `(status, mode, height, width, address, bytes)`; `known`: the kernel's modes."""
    sample = np.int64(sample_id(step, position))
    mode, width, height, pointer = read_record(step, sample)
    if mode > YUV420_MODE or known >> mode & 1 == 0:
        return UNKNOWN_MODE, mode, height, width, 0, 0
    data, size = locate(word(step, STORAGE), pointer, stored_bytes(mode, height, width))
    status = OUT_OF_FILE if data == 0 or width == 0 or height == 0 else OK
    return status, mode, height, width, data, size


# Crops


@compiled
def _resize(step, position, data, stride, height, width, crop, flip, thread):
    """A crop of RGB pixels in memory into the target."""
    top, left, crop_height, crop_width = crop
    return resize_crop(
        data, stride, height, width, top, left, crop_height, crop_width, target_of(step, position),
        own(step, HEIGHT), own(step, WIDTH), flip, own(step, INTERPOLATION), thread,
    )  # fmt: skip


@compiled
def _crop_raw(step, position, height, width, data, thread):
    crop, flip = choose_part(step, position, height, width)
    return _resize(step, position, data, 3 * width, height, width, crop, flip, thread)


@compiled
def _crop_rgb(step, position, mode, height, width, data, size, thread):
    """A crop of a JPEG or a raw image into the target."""
    crop, flip = choose_part(step, position, height, width)
    stride = 3 * width
    if mode == JPEG_MODE:
        data = _private_copy(thread, data, size)
        if data == 0:
            return NO_MEMORY
        top, left, crop_height, crop_width = crop
        status, data, stride, region_top, region_left, height, width = decode_region(
            thread, data, size, height, width, top, left, crop_height, crop_width, own(step, FAST_UPSAMPLING)
        )
        if status != OK:
            return status
        crop = (top - region_top, left - region_left, crop_height, crop_width)
    return _resize(step, position, data, stride, height, width, crop, flip, thread)


@compiled
def _crop_yuv420(step, position, height, width, data, thread):
    crop, flip = choose_part(step, position, height, width)
    top, left, crop_height, crop_width = crop
    return resize_crop_yuv420(
        data, height, width, top, left, crop_height, crop_width, target_of(step, position),
        own(step, HEIGHT), own(step, WIDTH), flip, own(step, INTERPOLATION), thread,
    )  # fmt: skip


@native_kernel
def crop_raw_images(step, first, stop, thread):
    """RGB uint8 `(HEIGHT, WIDTH, 3)` of a crop of each stored image, all of which are raw."""
    for position in range(first, stop):
        status, _, height, width, data, _ = _find(step, position, _RAW)
        if status == OK:
            status = _crop_raw(step, position, height, width, data, thread)
        if status != OK:
            return failure(position, status)
    return OK


@native_kernel
def crop_rgb_images(step, first, stop, thread):
    """As `crop_raw_images`, of JPEG and raw images."""
    for position in range(first, stop):
        status, mode, height, width, data, size = _find(step, position, _RGB)
        if status == OK:
            status = _crop_rgb(step, position, mode, height, width, data, size, thread)
        if status != OK:
            return failure(position, status)
    return OK


@native_kernel
def crop_yuv420_images(step, first, stop, thread):
    """As `crop_raw_images`, of images that are all planar YUV."""
    for position in range(first, stop):
        status, _, height, width, data, _ = _find(step, position, _YUV420)
        if status == OK:
            status = _crop_yuv420(step, position, height, width, data, thread)
        if status != OK:
            return failure(position, status)
    return OK


@native_kernel
def crop_any_images(step, first, stop, thread):
    """As `crop_raw_images`, of images of every mode."""
    for position in range(first, stop):
        status, mode, height, width, data, size = _find(step, position, _ANY)
        if status == OK:
            if mode == YUV420_MODE:
                status = _crop_yuv420(step, position, height, width, data, thread)
            else:
                status = _crop_rgb(step, position, mode, height, width, data, size, thread)
        if status != OK:
            return failure(position, status)
    return OK


# Whole images


@compiled
def _find_whole(step, position, known):
    """`_find`, of an image that has the step's size."""
    status, mode, height, width, data, size = _find(step, position, known)
    if status == OK and (height != own(step, HEIGHT) or width != own(step, WIDTH)):
        status = SIZE_MISMATCH
    return status, mode, data, size


@compiled
def _whole_rgb(step, position, mode, data, size, thread):
    """A JPEG or a raw image into the target."""
    target = target_of(step, position)
    if mode == JPEG_MODE:
        data = _private_copy(thread, data, size)
        if data == 0:
            return NO_MEMORY
        width = own(step, WIDTH)
        return decode_whole(thread, data, size, own(step, HEIGHT), width, target, 3 * width)
    copy_bytes(target, data, size)
    return OK


@compiled
def _whole_yuv420(step, position, data, thread):
    height, width = own(step, HEIGHT), own(step, WIDTH)
    target = target_of(step, position)
    return resize_crop_yuv420(data, height, width, 0, 0, height, width, target, height, width, 0, AREA, thread)


@native_kernel
def copy_raw_images(step, first, stop, thread):
    """RGB uint8 `(HEIGHT, WIDTH, 3)` of each stored image, all of which have that size and are raw."""
    for position in range(first, stop):
        status, _, data, size = _find_whole(step, position, _RAW)
        if status != OK:
            return failure(position, status)
        copy_bytes(target_of(step, position), data, size)
    return OK


@native_kernel
def decode_rgb_images(step, first, stop, thread):
    """As `copy_raw_images`, of JPEG and raw images."""
    for position in range(first, stop):
        status, mode, data, size = _find_whole(step, position, _RGB)
        if status == OK:
            status = _whole_rgb(step, position, mode, data, size, thread)
        if status != OK:
            return failure(position, status)
    return OK


@native_kernel
def decode_yuv420_images(step, first, stop, thread):
    """As `copy_raw_images`, of images that are all planar YUV."""
    for position in range(first, stop):
        status, _, data, _ = _find_whole(step, position, _YUV420)
        if status == OK:
            status = _whole_yuv420(step, position, data, thread)
        if status != OK:
            return failure(position, status)
    return OK


@native_kernel
def decode_any_images(step, first, stop, thread):
    """As `copy_raw_images`, of images of every mode."""
    for position in range(first, stop):
        status, mode, data, size = _find_whole(step, position, _ANY)
        if status == OK:
            if mode == YUV420_MODE:
                status = _whole_yuv420(step, position, data, thread)
            else:
                status = _whole_rgb(step, position, mode, data, size, thread)
        if status != OK:
            return failure(position, status)
    return OK


# From the kernel that is compiled soonest to the one that knows all.
_CROPPING = ((_RAW, crop_raw_images), (_YUV420, crop_yuv420_images), (_RGB, crop_rgb_images), (_ANY, crop_any_images))
_WHOLE = (
    (_RAW, copy_raw_images),
    (_YUV420, decode_yuv420_images),
    (_RGB, decode_rgb_images),
    (_ANY, decode_any_images),
)


def _first_that_knows(modes: Collection[int], kernels: tuple[tuple[int, NativeKernel], ...]) -> NativeKernel:
    wanted = sum(1 << mode for mode in {*modes} if mode <= YUV420_MODE)
    return next(kernel for known, kernel in kernels if wanted & ~known == 0)


def cropping_kernel(modes: Collection[int]) -> NativeKernel:
    """The kernel for crops of a file that has images of these modes; any others are refused as it runs."""
    return _first_that_knows(modes, _CROPPING)


def whole_kernel(modes: Collection[int]) -> NativeKernel:
    """The kernel for whole images of a file that has images of these modes; any others are refused as it runs."""
    return _first_that_knows(modes, _WHOLE)
