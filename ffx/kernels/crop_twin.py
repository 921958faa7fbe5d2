"""What a device does with crop requests, done by the CPU: the reference for the device's kernel.

Plain and slow; the decoders have kernels of their own (`ffx.kernels.image`).
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .crop_request import (
    COLUMN_RULE,
    CROP_HEIGHT,
    CROP_WIDTH,
    FLIP,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LEFT,
    MODE,
    OFFSET,
    ROW_RULE,
    TOP,
)
from .stored_image import RAW_MODE
from .taps import float_taps, most_taps

__all__ = ["crop_requested", "rgb_of"]


@compiled
def rgb_of(luma, blue, red):
    """Red, green and blue of full-range BT.601, not yet rounded."""
    blue -= 128.0
    red -= 128.0
    return luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue


@compiled
def _channel_places(request, row, column):
    """Where a pixel's three values lie: of 4:2:0 the chroma of the 2 x 2 block that it belongs to."""
    height, width, offset = request[IMAGE_HEIGHT], request[IMAGE_WIDTH], request[OFFSET]
    row += request[TOP]
    column += request[LEFT]
    if request[MODE] == RAW_MODE:
        first = offset + 3 * (row * width + column)
        return first, first + 1, first + 2
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    blue = offset + height * width + row // 2 * half_width + column // 2
    return offset + row * width + column, blue, blue + half_height * half_width


@compiled
def _sum_row(request, data, first, count, weights, sums):
    """The weighted sum of the crop's rows: float64[crop width, 3]."""
    sums[:] = 0.0
    for tap in range(count):
        for column in range(request[CROP_WIDTH]):
            places = _channel_places(request, first + tap, column)
            for channel in range(3):
                sums[column, channel] += weights[tap] * data[places[channel]]


@compiled
def _crop(request, data, target):
    height, width = request[CROP_HEIGHT], request[CROP_WIDTH]
    target_height, target_width = target.shape[0], target.shape[1]
    row_rule, column_rule = request[ROW_RULE], request[COLUMN_RULE]
    row_weights = np.empty(most_taps(row_rule, height, target_height) + 4, np.float64)
    column_weights = np.empty(most_taps(column_rule, width, target_width) + 4, np.float64)
    sums = np.empty((width, 3), np.float64)
    values = np.empty(3, np.float64)
    for row in range(target_height):
        first, count = float_taps(row_rule, height, target_height, row, row_weights)
        _sum_row(request, data, first, count, row_weights, sums)
        for place in range(target_width):
            first, count = float_taps(column_rule, width, target_width, place, column_weights)
            values[:] = 0.0
            for tap in range(count):
                values += column_weights[tap] * sums[first + tap]
            if request[MODE] != RAW_MODE:
                values[0], values[1], values[2] = rgb_of(values[0], values[1], values[2])
            column = target_width - 1 - place if request[FLIP] != 0 else place
            for channel in range(3):
                target[row, column, channel] = np.uint8(min(max(np.floor(values[channel] + 0.5), 0.0), 255.0))


@compiled
def crop_requested(requests, data, target):
    """Crop, resize and mirror as requested.

    Args:
        requests: int64[samples, REQUEST_WORDS]; the images that they name must lie within `data`.
        data: uint8[bytes].
        target: uint8[samples, height, width, 3], written.
    """
    for position in range(len(requests)):
        _crop(requests[position], data, target[position])
