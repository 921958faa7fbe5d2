"""Mirror images left to right, where the decoder could not do it in passing."""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from .memory import KERNEL_OPTIONS, array_at, copy_bytes
from .sample import draw, own, own_float, source_of, target_of
from .step import KERNEL_SIGNATURE, OK

__all__ = ["HEIGHT", "OWN_WORDS", "PIXEL_BYTES", "PROBABILITY", "WIDTH", "flip_images", "mirror"]

PROBABILITY = 0  # the bits of a float64
HEIGHT = 1
WIDTH = 2
PIXEL_BYTES = 3
OWN_WORDS = 4


@njit(**KERNEL_OPTIONS)
def mirror(source, target, height, width, pixel_bytes):
    """Copy an image with its columns in reverse order, from one address to another."""
    if pixel_bytes == 3:
        # The usual case with a constant that the compiler can unroll.
        pixels = array_at(source, (height, width, 3), np.uint8)
        mirrored = array_at(target, (height, width, 3), np.uint8)
        for row in range(height):
            for column in range(width):
                mirrored[row, width - 1 - column, 0] = pixels[row, column, 0]
                mirrored[row, width - 1 - column, 1] = pixels[row, column, 1]
                mirrored[row, width - 1 - column, 2] = pixels[row, column, 2]
        return
    row_bytes = width * pixel_bytes
    for row in range(height):
        for column in range(width):
            place = target + row * row_bytes + (width - 1 - column) * pixel_bytes
            copy_bytes(place, source + row * row_bytes + column * pixel_bytes, pixel_bytes)


@njit(**KERNEL_OPTIONS)
def _flip(step, position):
    source, target = source_of(step, position), target_of(step, position)
    height, width, pixel_bytes = own(step, HEIGHT), own(step, WIDTH), own(step, PIXEL_BYTES)
    if draw(step, position, 0) < own_float(step, PROBABILITY):
        mirror(source, target, height, width, pixel_bytes)
    else:
        copy_bytes(target, source, height * width * pixel_bytes)


@cfunc(KERNEL_SIGNATURE, cache=True)
def flip_images(step, first, stop, thread):
    """Each image mirrored with PROBABILITY, else as it is."""
    for position in range(first, stop):
        _flip(step, position)
    return OK
