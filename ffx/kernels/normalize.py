"""Native step that turns bytes into normalised numbers by a table."""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from .memory import KERNEL_OPTIONS, array_at
from .step import KERNEL_SIGNATURE, OK, OWN, SOURCE, SOURCE_BYTES, TARGET, TARGET_BYTES, word

__all__ = ["CHANNELS", "ITEM_BYTES", "OWN_WORDS", "PIXELS", "TABLE", "normalize_images"]

PIXELS = 0
CHANNELS = 1
ITEM_BYTES = 2  # of a result: 2, 4 or 8
TABLE = 3  # address of result[256, CHANNELS]
OWN_WORDS = 4


@njit(**KERNEL_OPTIONS)
def _look_up(source, target, table, pixels, channels):
    if channels == 3:
        # The usual case, unrolled.
        for pixel in range(pixels):
            at = 3 * pixel
            target[at] = table[3 * source[at]]
            target[at + 1] = table[3 * source[at + 1] + 1]
            target[at + 2] = table[3 * source[at + 2] + 2]
        return
    for at in range(pixels * channels):
        target[at] = table[channels * source[at] + at % channels]


@cfunc(KERNEL_SIGNATURE, cache=True)
def normalize_images(step, first, stop, thread):
    """`TABLE[byte, channel]` for each byte of images `uint8 (PIXELS, CHANNELS)`."""
    pixels, channels, item = word(step, OWN + PIXELS), word(step, OWN + CHANNELS), word(step, OWN + ITEM_BYTES)
    count = pixels * channels
    for position in range(first, stop):
        source = array_at(word(step, SOURCE) + position * word(step, SOURCE_BYTES), (count,), np.uint8)
        target = word(step, TARGET) + position * word(step, TARGET_BYTES)
        table = word(step, OWN + TABLE)
        # The numbers are moved, not computed with, so integers of their size will do.
        if item == 2:
            _look_up(source, array_at(target, (count,), np.int16), array_at(table, (256 * channels,), np.int16), pixels, channels)
        elif item == 4:
            _look_up(source, array_at(target, (count,), np.int32), array_at(table, (256 * channels,), np.int32), pixels, channels)
        else:
            _look_up(source, array_at(target, (count,), np.int64), array_at(table, (256 * channels,), np.int64), pixels, channels)
    return OK
