"""Which way up a picture is: what a camera noted in EXIF, and pixels turned accordingly."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

__all__ = ["UPRIGHT", "orientation_of", "turned"]

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
# EXIF stands within the segments before the picture, of at most this many bytes each; cameras put it first.
_WHERE_EXIF_BEGINS = 1 << 17


def orientation_of(value: bytes | Image.Image) -> int:
    """EXIF's number of a picture, 1 to 8 (`turned` says what they mean); 1 where nothing, or nonsense, is noted.

    Args:
        value: an encoded picture, or one of Pillow's.
    """
    try:
        if isinstance(value, Image.Image):
            number = value.getexif().get(_ORIENTATION_TAG)
        elif value[:2] == _JPEG and _EXIF not in value[:_WHERE_EXIF_BEGINS]:
            return UPRIGHT
        else:
            with Image.open(io.BytesIO(value)) as picture:
                number = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Damaged EXIF is no reason to lose a picture, and Pillow raises all kinds of errors for it.
        return UPRIGHT
    return number if isinstance(number, int) and 1 <= number <= 8 else UPRIGHT


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """`[height, width, channels]` as it is to be seen, a view.

    Args:
        pixels: as they are stored.
        orientation: 1 as it is, 2 mirrored left to right, 3 turned by 180 degrees, 4 mirrored top to bottom, 5 to 8
            with rows and columns exchanged (5 so alone, 6 then mirrored left to right, 7 both ways, 8 top to bottom).
    """
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
