"""RGB to planar YUV 4:2:0, when a file is written: integers throughout, so the same bytes on every processor."""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled

__all__ = ["rgb_to_yuv420"]

# BT.601 over the full range, as JPEG has it. Y = 0.299 R + 0.587 G + 0.114 B with 22 fractional bits; a bit more than
# a half is added, so that a thousandth's half is rounded up in spite of the factors' errors.
_RED, _GREEN, _BLUE = 1254097, 2462056, 478151
_LUMA_SHIFT = 22
_LUMA_HALF = (1 << 21) + 512
# U = (B - Y) / 1.772 and V = (R - Y) / 1.402 with 20 fractional bits, of the sums of four pixels.
_BLUE_FACTORS = (-176933, -347355, 524288)
_RED_FACTORS = (524288, -439026, -85262)
_CHROMA_SHIFT = 22
# 128, and a half.
_CHROMA_START = (128 << 22) + (1 << 21)


@compiled
def _luma_row(row, bright):
    for column in range(bright.size):
        red, green, blue = np.int32(row[column, 0]), np.int32(row[column, 1]), np.int32(row[column, 2])
        total = np.int32(_RED) * red + np.int32(_GREEN) * green + np.int32(_BLUE) * blue + np.int32(_LUMA_HALF)
        bright[column] = np.uint8(total >> np.int32(_LUMA_SHIFT))


@njit(inline="always")
def _chroma(factors, red, green, blue):
    total = np.int32(factors[0]) * red + np.int32(factors[1]) * green + np.int32(factors[2]) * blue
    return np.uint8(min((total + np.int32(_CHROMA_START)) >> np.int32(_CHROMA_SHIFT), np.int32(255)))


@njit(inline="always")
def _four(upper, lower, left, right, colour):
    return (
        np.int32(upper[left, colour])
        + np.int32(upper[right, colour])
        + np.int32(lower[left, colour])
        + np.int32(lower[right, colour])
    )


@compiled
def _chroma_row(upper, lower, blues, reds):
    last = upper.shape[0] - 1
    for column in range(blues.size):
        left, right = 2 * column, min(2 * column + 1, last)
        red, green, blue = (
            _four(upper, lower, left, right, 0),
            _four(upper, lower, left, right, 1),
            _four(upper, lower, left, right, 2),
        )
        blues[column] = _chroma(_BLUE_FACTORS, red, green, blue)
        reds[column] = _chroma(_RED_FACTORS, red, green, blue)


@compiled
def rgb_to_yuv420(pixels, planes):
    """The planes of an image, one behind the other (`docs/format.md`).

    Args:
        pixels: uint8[height, width, 3], contiguous.
        planes: uint8[`ffx.kernels.yuv.yuv420_bytes`], set.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    bright = planes[: height * width].reshape((height, width))
    blues = planes[height * width : height * width + rows * columns].reshape((rows, columns))
    reds = planes[height * width + rows * columns : height * width + 2 * rows * columns].reshape((rows, columns))
    for row in range(height):
        _luma_row(pixels[row], bright[row])
    for row in range(rows):
        _chroma_row(pixels[2 * row], pixels[min(2 * row + 1, height - 1)], blues[row], reds[row])
