"""What kernels know of a stored image: its mode and record, and which part of it a step wants.

A sample's crop and flip depend on the step's keys, the sample and its occurrence alone: a kernel that decodes and
one that only writes down what a device is to crop choose the same.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .crop import center_crop
from .memory import load_u8, load_u16, load_u32, load_u64
from .sample import draw_crop, draw_flip, own, own_float, sample_id
from .step import METADATA, METADATA_BYTES, OCCURRENCES, word
from .yuv import yuv420_bytes

__all__ = [
    "CENTER_CROP",
    "CROP",
    "FAST_UPSAMPLING",
    "FLIP_KEY",
    "FLIP_PROBABILITY",
    "HEIGHT",
    "INTERPOLATION",
    "JPEG_MODE",
    "LARGEST",
    "LOG_NARROW",
    "LOG_WIDE",
    "OWN_WORDS",
    "RANDOM_CROP",
    "RAW_MODE",
    "SMALLEST",
    "WIDTH",
    "YUV420_MODE",
    "choose_part",
    "read_record",
    "stored_bytes",
]

JPEG_MODE = 0
RAW_MODE = 1
YUV420_MODE = 2

RANDOM_CROP = 0
CENTER_CROP = 1

# The own words of a step that makes images, counted from `step.OWN`. Floats are stored as their bits.
HEIGHT = 0
WIDTH = 1
CROP = 2  # RANDOM_CROP or CENTER_CROP
SMALLEST = 3  # RANDOM_CROP: least share of the area; CENTER_CROP: share of the shorter side
LARGEST = 4
LOG_NARROW = 5
LOG_WIDE = 6
FLIP_PROBABILITY = 7
FLIP_KEY = 8
INTERPOLATION = 9  # AREA, ANTIALIAS or BILINEAR of `ffx.kernels.taps`
FAST_UPSAMPLING = 10  # 1: chroma samples are repeated, 0: blended
OWN_WORDS = 11


@compiled
def read_record(step, sample):
    """An image's metadata, packed: `(mode, width, height, pointer)`."""
    record = word(step, METADATA) + sample * word(step, METADATA_BYTES)
    # Signed, so that the functions that get them are compiled for one kind of integers.
    mode = np.int64(load_u8(record))
    width = np.int64(load_u16(record + 1))
    height = np.int64(load_u16(record + 3))
    return mode, width, height, load_u64(record + 5)


@njit(inline="always")
def stored_bytes(mode, height, width):
    """What an image takes in the file, or -1 where only the allocation table says so."""
    if mode == RAW_MODE:
        return 3 * width * height
    return yuv420_bytes(height, width) if mode == YUV420_MODE else -1


@compiled
def _crop_for(step, height, width, sample, occurrence):
    if own(step, CROP) == CENTER_CROP:
        return center_crop(height, width, own_float(step, SMALLEST))
    return draw_crop(step, SMALLEST, height, width, sample, occurrence)


@compiled
def choose_part(step, position, height, width):
    """The crop of an image, and whether it is mirrored: `((top, left, height, width), flip)`."""
    sample = np.int64(sample_id(step, position))
    occurrence = np.int64(load_u32(word(step, OCCURRENCES) + 4 * position))
    crop = _crop_for(step, height, width, sample, occurrence)
    return crop, draw_flip(step, FLIP_PROBABILITY, FLIP_KEY, sample, occurrence)
