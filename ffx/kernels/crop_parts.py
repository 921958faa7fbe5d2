"""Crops as they are stored, copied one behind the other into a buffer that goes to a device in one piece.

The buffer begins with a crop request for each sample (`ffx.kernels.crop_request`), whose offsets count from
the buffer's start; the parts follow. A part is the crop's rows and columns and nothing else; of 4:2:0 planes
it begins at an even row and column, so that it is a stored image itself.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .crop_request import (
    CROP_HEIGHT,
    CROP_WIDTH,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LEFT,
    MODE,
    OFFSET,
    PLACE,
    REQUEST_WORDS,
    TOP,
)
from .memory import array_at, copy_bytes
from .sample import source_of
from .step import OK, OUT_OF_FILE, STORAGE, TARGET, failure, locate, native_kernel, word
from .stored_image import RAW_MODE, stored_bytes

__all__ = ["copy_part", "copy_parts", "part_of", "place_parts"]

# Parts begin at a device's memory sectors.
_ALIGNMENT = 32


@compiled
def _aligned(count):
    return (count + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


@compiled
def part_of(request):
    """`(top, left, height, width)` of the pixels that a request needs."""
    top, left = request[TOP], request[LEFT]
    bottom, right = top + request[CROP_HEIGHT], left + request[CROP_WIDTH]
    if request[MODE] != RAW_MODE:
        top, left = top // 2 * 2, left // 2 * 2
        bottom = min((bottom + 1) // 2 * 2, request[IMAGE_HEIGHT])
        right = min((right + 1) // 2 * 2, request[IMAGE_WIDTH])
    return top, left, bottom - top, right - left


@compiled
def place_parts(requests):
    """Choose each part's place in the buffer (the requests' PLACE is set); returns the buffer's bytes.

    Args:
        requests: int64[samples, REQUEST_WORDS].
    """
    place = _aligned(8 * REQUEST_WORDS * len(requests))
    for position in range(len(requests)):
        request = requests[position]
        _, _, height, width = part_of(request)
        request[PLACE] = place
        place += _aligned(stored_bytes(request[MODE], height, width))
    return place


@compiled
def _copy_rows(target, source, source_stride, rows, row_bytes):
    """Rows out of an image, one behind the other; returns the address behind them."""
    for row in range(rows):
        copy_bytes(target + row * row_bytes, source + row * source_stride, row_bytes)
    return target + rows * row_bytes


@compiled
def _copy_pixels(request, data, target):
    """A request's part of the image at `data`, to `target`."""
    top, left, height, width = part_of(request)
    image_height, image_width = request[IMAGE_HEIGHT], request[IMAGE_WIDTH]
    if request[MODE] == RAW_MODE:
        _copy_rows(target, data + 3 * (top * image_width + left), 3 * image_width, height, 3 * width)
        return
    target = _copy_rows(target, data + top * image_width + left, image_width, height, width)
    stride = (image_width + 1) // 2
    plane = data + image_height * image_width
    start = top // 2 * stride + left // 2
    rows, row_bytes = (height + 1) // 2, (width + 1) // 2
    target = _copy_rows(target, plane + start, stride, rows, row_bytes)
    plane += stride * ((image_height + 1) // 2)
    _copy_rows(target, plane + start, stride, rows, row_bytes)


@compiled
def copy_part(request, position, data, buffer):
    """One sample's request and part, at their places in the buffer.

    Args:
        request: int64[REQUEST_WORDS], with its PLACE.
        position: the sample's, in the batch.
        data: address of the stored image.
        buffer: address of the buffer.
    """
    _copy_pixels(request, data, buffer + request[PLACE])
    top, left, height, width = part_of(request)
    sent = array_at(buffer + 8 * REQUEST_WORDS * position, (REQUEST_WORDS,), np.int64)
    sent[:] = request
    sent[OFFSET] = request[PLACE]
    sent[IMAGE_HEIGHT], sent[IMAGE_WIDTH] = height, width
    sent[TOP], sent[LEFT] = request[TOP] - top, request[LEFT] - left


@compiled
def _copy(step, position):
    request = array_at(source_of(step, position), (REQUEST_WORDS,), np.int64)
    size = stored_bytes(request[MODE], request[IMAGE_HEIGHT], request[IMAGE_WIDTH])
    data, _ = locate(word(step, STORAGE), request[OFFSET], size)
    if data == 0:
        return OUT_OF_FILE
    copy_part(request, position, data, word(step, TARGET))
    return OK


@native_kernel
def copy_parts(step, first, stop, thread):
    """Each request and its part, at their places in the buffer."""
    for position in range(first, stop):
        status = _copy(step, position)
        if status != OK:
            return failure(position, status)
    return OK
