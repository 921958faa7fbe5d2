"""Where to crop an image: the random resized crop of training and the centre crop of validation."""

from __future__ import annotations

import math

import numpy as np

from .compiling import compiled
from .rng import uniform

__all__ = ["center_crop", "random_crop"]

_ATTEMPTS = 10


@compiled
def random_crop(height, width, smallest, largest, log_narrow, log_wide, key, sample, occurrence):
    """A random part of an image, as torchvision's `RandomResizedCrop` chooses it.

    Ten times, an area between `smallest` and `largest` (shares of the image) and the logarithm of an
    aspect ratio between `log_narrow` and `log_wide` are drawn; the first rectangle that fits is taken
    at a random place. If none fits, the largest centred part of an allowed ratio.

    Args:
        height, width: of the image, in pixels.
        key, sample, occurrence: the random stream (`ffx.kernels.rng`); attempt `a` draws 4a to 4a + 3.

    Returns:
        `(top, left, height, width)` of the crop, int64.
    """
    # Metadata have unsigned sides: with an int64, numba would make a float64 of them.
    height, width = np.int64(height), np.int64(width)
    area = np.float64(height) * np.float64(width)
    for attempt in range(_ATTEMPTS):
        draw = 4 * attempt
        target = area * (smallest + (largest - smallest) * uniform(key, sample, occurrence, draw))
        ratio = math.exp(log_narrow + (log_wide - log_narrow) * uniform(key, sample, occurrence, draw + 1))
        crop_width = np.int64(np.rint(math.sqrt(target * ratio)))
        crop_height = np.int64(np.rint(math.sqrt(target / ratio)))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = np.int64(uniform(key, sample, occurrence, draw + 2) * (height - crop_height + 1))
            left = np.int64(uniform(key, sample, occurrence, draw + 3) * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    narrow, wide = math.exp(log_narrow), math.exp(log_wide)
    crop_height, crop_width = height, width
    if width < narrow * height:
        crop_height = min(crop_height, np.int64(np.rint(width / narrow)))
    elif width > wide * height:
        crop_width = min(crop_width, np.int64(np.rint(height * wide)))
    crop_height, crop_width = max(crop_height, np.int64(1)), max(crop_width, np.int64(1))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


@compiled
def center_crop(height, width, ratio):
    """The centred square whose side is `ratio` of the image's shorter side (at least one pixel).

    Returns:
        `(top, left, height, width)`, int64.
    """
    height, width = np.int64(height), np.int64(width)
    side = max(np.int64(ratio * min(height, width)), np.int64(1))
    return (height - side) // 2, (width - side) // 2, side, side
