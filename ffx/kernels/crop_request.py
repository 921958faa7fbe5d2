"""Crop requests: what a device is to crop out of which stored image, written by the host in a few words.

A device that crops and resizes gets the stored pixels and, for each sample of a batch, one row of `int64`
words (the indices below). The crop and the flip in it are drawn by the same functions and random streams
that the CPU's decoders use.

Stored images are either RAW_MODE (rows of red, green, blue bytes) or YUV420_MODE: the planes Y (height x
width), U and V (each half as high and wide, rounded up) one after the other, full-range BT.601.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .memory import array_at
from .sample import own, sample_id, target_of
from .step import OK, OUT_OF_FILE, UNKNOWN_MODE, failure, native_kernel
from .stored_image import HEIGHT, INTERPOLATION, RAW_MODE, WIDTH, YUV420_MODE, choose_part, read_record, stored_bytes
from .stored_image import OWN_WORDS as IMAGE_WORDS
from .taps import axis_rule

__all__ = [
    "COLUMN_RULE",
    "CROP_HEIGHT",
    "CROP_WIDTH",
    "DATA_START",
    "FLIP",
    "IMAGE_HEIGHT",
    "IMAGE_WIDTH",
    "LEFT",
    "MODE",
    "OFFSET",
    "OWN_WORDS",
    "PLACE",
    "REQUEST_WORDS",
    "ROW_RULE",
    "TOP",
    "request_crops",
    "write_request",
]

# The words of a request.
OFFSET = 0  # of the image's first byte in the data that come with the requests
MODE = 1  # RAW_MODE or YUV420_MODE
IMAGE_HEIGHT = 2
IMAGE_WIDTH = 3
TOP = 4  # the crop
LEFT = 5
CROP_HEIGHT = 6
CROP_WIDTH = 7
FLIP = 8  # 1: mirrored left to right
ROW_RULE = 9  # how rows are weighed, a rule of `ffx.kernels.taps`
COLUMN_RULE = 10
PLACE = 11  # where the sample's part begins in a buffer of parts (`ffx.kernels.crop_parts`)
REQUEST_WORDS = 12

# The kernel's own words: those of the image decoder that it stands for, then which bytes of the file there are.
DATA_START = IMAGE_WORDS
_DATA_STOP = IMAGE_WORDS + 1
OWN_WORDS = IMAGE_WORDS + 2


@compiled
def write_request(request, offset, mode, height, width, crop, flip, interpolation, target_height, target_width):
    """Fill in one request; `crop` is `(top, left, height, width)`."""
    top, left, crop_height, crop_width = crop
    request[OFFSET] = offset
    request[MODE] = mode
    request[IMAGE_HEIGHT], request[IMAGE_WIDTH] = height, width
    request[TOP], request[LEFT] = top, left
    request[CROP_HEIGHT], request[CROP_WIDTH] = crop_height, crop_width
    request[FLIP] = flip
    request[ROW_RULE] = axis_rule(interpolation, crop_height, target_height, crop_width, target_width)
    request[COLUMN_RULE] = axis_rule(interpolation, crop_width, target_width, crop_height, target_height)
    request[PLACE] = 0


@compiled
def _request(step, position):
    sample = np.int64(sample_id(step, position))
    mode, width, height, pointer = read_record(step, sample)
    pointer = np.int64(pointer)
    if mode != RAW_MODE and mode != YUV420_MODE:
        return UNKNOWN_MODE
    start, stop = own(step, DATA_START), own(step, _DATA_STOP)
    if width == 0 or height == 0 or pointer < start or pointer > stop - stored_bytes(mode, height, width):
        return OUT_OF_FILE
    crop, flip = choose_part(step, position, height, width)
    request = array_at(target_of(step, position), (REQUEST_WORDS,), np.int64)
    interpolation, target_height, target_width = own(step, INTERPOLATION), own(step, HEIGHT), own(step, WIDTH)
    write_request(request, pointer - start, mode, height, width, crop, flip, interpolation, target_height, target_width)
    return OK


@native_kernel
def request_crops(step, first, stop, thread):
    """A request for each sample's crop; no stored pixel is read."""
    for position in range(first, stop):
        status = _request(step, position)
        if status != OK:
            return failure(position, status)
    return OK
