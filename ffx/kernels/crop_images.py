"""Native step of the random resized crop of images that are decoded already."""

from __future__ import annotations

from .compiling import compiled
from .memory import load_u32
from .resize import resize_crop
from .sample import draw_crop, draw_flip, own, sample_id, source_of, target_of
from .step import OCCURRENCES, OK, failure, native_kernel, word

__all__ = [
    "FLIP_KEY",
    "FLIP_PROBABILITY",
    "HEIGHT",
    "INTERPOLATION",
    "LARGEST",
    "LOG_NARROW",
    "LOG_WIDE",
    "OWN_WORDS",
    "SMALLEST",
    "TARGET_HEIGHT",
    "TARGET_WIDTH",
    "WIDTH",
    "crop_resized_images",
]

HEIGHT = 0  # of the given images
WIDTH = 1
TARGET_HEIGHT = 2
TARGET_WIDTH = 3
SMALLEST = 4  # this and the next three are the bits of a float64: the bounds of `random_crop`
LARGEST = 5
LOG_NARROW = 6
LOG_WIDE = 7
FLIP_PROBABILITY = 8  # the same, of a flip that is done in passing
FLIP_KEY = 9
INTERPOLATION = 10  # AREA, ANTIALIAS or BILINEAR of `ffx.kernels.taps`
OWN_WORDS = 11


@compiled
def _crop(step, position, thread):
    sample = sample_id(step, position)
    occurrence = load_u32(word(step, OCCURRENCES) + 4 * position)
    height, width = own(step, HEIGHT), own(step, WIDTH)
    top, left, crop_height, crop_width = draw_crop(step, SMALLEST, height, width, sample, occurrence)
    flip = draw_flip(step, FLIP_PROBABILITY, FLIP_KEY, sample, occurrence)
    return resize_crop(
        source_of(step, position),
        3 * width,
        height,
        width,
        top,
        left,
        crop_height,
        crop_width,
        target_of(step, position),
        own(step, TARGET_HEIGHT),
        own(step, TARGET_WIDTH),
        flip,
        own(step, INTERPOLATION),
        thread,
    )


@native_kernel
def crop_resized_images(step, first, stop, thread):
    """A random part of each RGB uint8 image, resized to `(TARGET_HEIGHT, TARGET_WIDTH, 3)`."""
    for position in range(first, stop):
        status = _crop(step, position, thread)
        if status != OK:
            return failure(position, status)
    return OK
