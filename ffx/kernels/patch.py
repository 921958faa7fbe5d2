"""Images with a part filled in: a square cut out, or what comes into view when they are moved."""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at, copy_bytes
from .sample import draw, own, source_of, target_of
from .step import OK, native_kernel

__all__ = [
    "CHANNELS",
    "FILL",
    "HEIGHT",
    "OWN_WORDS",
    "SIZE",
    "WIDTH",
    "cut_out_images",
    "fill_square",
    "translate",
    "translate_images",
]

HEIGHT = 0
WIDTH = 1
CHANNELS = 2
SIZE = 3  # the square's side, or the largest move, in pixels
FILL = 4  # address of one value a channel
OWN_WORDS = 5


@compiled
def fill_square(image, size, fill, vertical, horizontal):
    """Fill a square of an image, in place.

    Args:
        image: `(height, width, channels)`.
        size: the square's side, at most the image's.
        fill: one value a channel.
        vertical, horizontal: numbers in [0, 1) that place the square.
    """
    top = np.int64(vertical * (image.shape[0] - size + 1))
    left = np.int64(horizontal * (image.shape[1] - size + 1))
    for row in range(top, top + size):
        for column in range(left, left + size):
            for channel in range(image.shape[2]):
                image[row, column, channel] = fill[channel]


@compiled
def translate(image, most, fill, vertical, horizontal, target):
    """A copy of an image moved by -most … most pixels along both axes.

    Args:
        image, target: `(height, width, channels)` arrays.
        most: the largest move in pixels.
        fill: one value a channel, for what was outside.
        vertical, horizontal: numbers in [0, 1) that choose the move.
    """
    height, width, channels = image.shape
    # Where each target pixel comes from, counted from its own place.
    down = np.int64(vertical * (2 * most + 1)) - most
    right = np.int64(horizontal * (2 * most + 1)) - most
    # Rows as one dimension, of which a part is copied at once.
    source = np.ascontiguousarray(image).reshape((height, width * channels))
    result = target.reshape((height, width * channels))
    for row in range(height):
        inside = 0 <= row + down < height
        first = channels * (min(max(-right, 0), width) if inside else width)
        stop = max(channels * min(width - right, width), first) if inside else first
        for place in range(first):
            result[row, place] = fill[place % channels]
        if stop > first:
            start = (row + down) * width * channels + first + right * channels
            copy_bytes(
                result.ctypes.data + (row * width * channels + first) * result.itemsize,
                source.ctypes.data + start * source.itemsize,
                (stop - first) * source.itemsize,
            )
        for place in range(stop, width * channels):
            result[row, place] = fill[place % channels]


@njit(inline="always")
def _shape(step):
    return own(step, HEIGHT), own(step, WIDTH), own(step, CHANNELS)


@native_kernel
def cut_out_images(step, first, stop, thread):
    """Each uint8 image with a square at a random place."""
    fill = array_at(own(step, FILL), (own(step, CHANNELS),), np.uint8)
    image_bytes = own(step, HEIGHT) * own(step, WIDTH) * own(step, CHANNELS)
    for position in range(first, stop):
        copy_bytes(target_of(step, position), source_of(step, position), image_bytes)
        image = array_at(target_of(step, position), _shape(step), np.uint8)
        fill_square(image, own(step, SIZE), fill, draw(step, position, 0), draw(step, position, 1))
    return OK


@native_kernel
def translate_images(step, first, stop, thread):
    """Each uint8 image moved at random."""
    fill = array_at(own(step, FILL), (own(step, CHANNELS),), np.uint8)
    for position in range(first, stop):
        image = array_at(source_of(step, position), _shape(step), np.uint8)
        target = array_at(target_of(step, position), _shape(step), np.uint8)
        translate(image, own(step, SIZE), fill, draw(step, position, 0), draw(step, position, 1), target)
    return OK
