"""Brightness, contrast and saturation of uint8 RGB images, by torchvision's formulas.

Each is a blend `factor * image + (1 - factor) * other`, held to 0 … 255 and cut off to whole levels:
the other is black for brightness, the mean of the grey image for contrast, the grey image itself for
saturation.
"""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from .memory import KERNEL_OPTIONS, array_at, copy_bytes
from .sample import draw, own, own_float, source_of, target_of
from .step import KERNEL_SIGNATURE, OK

__all__ = [
    "BRIGHTNESS",
    "CONTRAST",
    "HEIGHT",
    "KIND",
    "LEAST",
    "MOST",
    "OWN_WORDS",
    "PROBABILITY",
    "SATURATION",
    "WIDTH",
    "adjust",
    "adjust_images",
]

BRIGHTNESS = 0
CONTRAST = 1
SATURATION = 2

KIND = 0
HEIGHT = 1
WIDTH = 2
PROBABILITY = 3  # this and the next two are the bits of a float64
LEAST = 4  # the factor lies between LEAST and MOST
MOST = 5
OWN_WORDS = 6


@njit(**KERNEL_OPTIONS)
def _blend(value, other, factor):
    return np.uint8(min(max(factor * value + (1.0 - factor) * other, 0.0), 255.0))


@njit(**KERNEL_OPTIONS)
def _grey(pixels, row, column):
    red = 0.2989 * pixels[row, column, 0]
    return np.uint8(red + 0.587 * pixels[row, column, 1] + 0.114 * pixels[row, column, 2])


@njit(**KERNEL_OPTIONS)
def _blend_with_level(image, level, factor, target):
    levels = np.empty(256, np.uint8)
    for value in range(256):
        levels[value] = _blend(np.float64(value), level, factor)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(3):
                target[row, column, channel] = levels[image[row, column, channel]]


@njit(**KERNEL_OPTIONS)
def _blend_with_grey(image, factor, target):
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            grey = np.float64(_grey(image, row, column))
            for channel in range(3):
                target[row, column, channel] = _blend(np.float64(image[row, column, channel]), grey, factor)


@njit(**KERNEL_OPTIONS)
def adjust(image, kind, least, most, share, target):
    """One image, uint8 `(height, width, 3)`, with its brightness, contrast or saturation times a factor
    that lies `share` of the way from `least` to `most`."""
    factor = least + (most - least) * share
    if kind == BRIGHTNESS:
        _blend_with_level(image, 0.0, factor, target)
    elif kind == CONTRAST:
        total = np.int64(0)
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                total += np.int64(_grey(image, row, column))
        _blend_with_level(image, total / (image.shape[0] * image.shape[1]), factor, target)
    else:
        _blend_with_grey(image, factor, target)


@njit(**KERNEL_OPTIONS)
def _adjust(step, position):
    shape = (own(step, HEIGHT), own(step, WIDTH), 3)
    source, target = source_of(step, position), target_of(step, position)
    if draw(step, position, 0) < own_float(step, PROBABILITY):
        image, result = array_at(source, shape, np.uint8), array_at(target, shape, np.uint8)
        least, most = own_float(step, LEAST), own_float(step, MOST)
        adjust(image, own(step, KIND), least, most, draw(step, position, 1), result)
    else:
        copy_bytes(target, source, shape[0] * shape[1] * 3)


@cfunc(KERNEL_SIGNATURE, cache=True)
def adjust_images(step, first, stop, thread):
    """Each image adjusted with PROBABILITY, else as it is."""
    for position in range(first, stop):
        _adjust(step, position)
    return OK
