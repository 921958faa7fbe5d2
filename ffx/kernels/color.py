"""Brightness, contrast and saturation of uint8 RGB images, by torchvision's formulas.

Each is a blend `factor * image + (1 - factor) * other`, held to 0 … 255 and cut off to whole levels:
the other is black for brightness, the mean of the grey image for contrast, the grey image itself for
saturation.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at, copy_bytes
from .sample import draw, own, own_float, source_of, target_of
from .step import OK, native_kernel

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


# Numbers with 20 fractional bits, as int64: an error far below a level, and faster than floats.
_BITS = 20
_ONE = 1 << _BITS
_RED, _GREEN, _BLUE = (round(weight * _ONE) for weight in (0.2989, 0.587, 0.114))


@njit(inline="always")
def _blend(value, factor, other):
    return np.uint8(min(max((factor * np.int64(value) + other) >> _BITS, 0), 255))


@njit(inline="always")
def _grey(red, green, blue):
    return (_RED * np.int64(red) + _GREEN * np.int64(green) + _BLUE * np.int64(blue)) >> _BITS


@compiled
def _blend_with_level(image, level, factor, target):
    other = np.int64(np.rint((1.0 - factor) * level * _ONE))
    factor = np.int64(np.rint(factor * _ONE))
    levels = np.empty(256, np.uint8)
    for value in range(256):
        levels[value] = _blend(value, factor, other)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            target[row, column, 0] = levels[image[row, column, 0]]
            target[row, column, 1] = levels[image[row, column, 1]]
            target[row, column, 2] = levels[image[row, column, 2]]


@compiled
def _blend_with_grey(image, factor, target):
    factor = np.int64(np.rint(factor * _ONE))
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            red, green, blue = image[row, column, 0], image[row, column, 1], image[row, column, 2]
            other = (_ONE - factor) * _grey(red, green, blue)
            target[row, column, 0] = _blend(red, factor, other)
            target[row, column, 1] = _blend(green, factor, other)
            target[row, column, 2] = _blend(blue, factor, other)


@compiled
def _mean_grey(image):
    total = np.int64(0)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            total += _grey(image[row, column, 0], image[row, column, 1], image[row, column, 2])
    return total / (image.shape[0] * image.shape[1])


@compiled
def adjust(image, kind, least, most, share, target):
    """One image, uint8 `(height, width, 3)`, with its brightness, contrast or saturation times a factor
    that lies `share` of the way from `least` to `most`."""
    factor = least + (most - least) * share
    if kind == BRIGHTNESS:
        _blend_with_level(image, 0.0, factor, target)
    elif kind == CONTRAST:
        _blend_with_level(image, _mean_grey(image), factor, target)
    else:
        _blend_with_grey(image, factor, target)


@compiled
def _adjust(step, position):
    shape = (own(step, HEIGHT), own(step, WIDTH), 3)
    source, target = source_of(step, position), target_of(step, position)
    if draw(step, position, 0) < own_float(step, PROBABILITY):
        image, result = array_at(source, shape, np.uint8), array_at(target, shape, np.uint8)
        least, most = own_float(step, LEAST), own_float(step, MOST)
        adjust(image, own(step, KIND), least, most, draw(step, position, 1), result)
    else:
        copy_bytes(target, source, shape[0] * shape[1] * 3)


@native_kernel
def adjust_images(step, first, stop, thread):
    """Each image adjusted with PROBABILITY, else as it is."""
    for position in range(first, stop):
        _adjust(step, position)
    return OK
