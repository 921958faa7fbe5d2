"""Turn uint8 images into floats by looking each value up: `table[value, channel]`.

The table is an exact statement of what each of the 256 values becomes, so every way to normalise
(compiled, native, on a GPU) gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from .memory import KERNEL_OPTIONS, array_at
from .sample import own, source_of, target_of
from .step import KERNEL_SIGNATURE, OK

__all__ = ["CHANNELS", "ITEM_BYTES", "OWN_WORDS", "PIXELS", "TABLE", "look_up", "normalize_images"]

TABLE = 0  # address of 256 rows of CHANNELS values
ITEM_BYTES = 1  # bytes of a value: 2, 4 or 8
PIXELS = 2  # of an image
CHANNELS = 3
OWN_WORDS = 4


@njit(**KERNEL_OPTIONS)
def look_up(pixels, table, target):
    """`target[p, c] = table[pixels[p, c], c]` for `(pixels, channels)` arrays."""
    count, channels = pixels.shape
    if channels == 3:
        for pixel in range(count):
            target[pixel, 0] = table[pixels[pixel, 0], 0]
            target[pixel, 1] = table[pixels[pixel, 1], 1]
            target[pixel, 2] = table[pixels[pixel, 2], 2]
        return
    for pixel in range(count):
        for channel in range(channels):
            target[pixel, channel] = table[pixels[pixel, channel], channel]


@njit(**KERNEL_OPTIONS)
def _normalize(step, position):
    shape = (own(step, PIXELS), own(step, CHANNELS))
    rows = (256, own(step, CHANNELS))
    pixels = array_at(source_of(step, position), shape, np.uint8)
    table, target, item_bytes = own(step, TABLE), target_of(step, position), own(step, ITEM_BYTES)
    # Values are only copied, so unsigned integers stand for floats of their size.
    if item_bytes == 2:
        look_up(pixels, array_at(table, rows, np.uint16), array_at(target, shape, np.uint16))
    elif item_bytes == 4:
        look_up(pixels, array_at(table, rows, np.uint32), array_at(target, shape, np.uint32))
    else:
        look_up(pixels, array_at(table, rows, np.uint64), array_at(target, shape, np.uint64))


@cfunc(KERNEL_SIGNATURE, cache=True)
def normalize_images(step, first, stop, thread):
    """Each image's values looked up in TABLE."""
    for position in range(first, stop):
        _normalize(step, position)
    return OK
