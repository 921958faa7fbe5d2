"""Which way up a picture is: what a camera noted in EXIF, and pixels turned accordingly."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

__all__ = ["UPRIGHT", "orientation_of", "turned", "turned_by_pillow"]

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
# What says so in a JPEG: EXIF, or XMP.
_SIGNS = (b"Exif\0\0", b"Orientation")


def orientation_of(jpeg: bytes) -> int:
    """EXIF's number of a JPEG, 1 to 8 (`turned` says what they mean); 1 where nothing, or nonsense, is noted."""
    if not any(sign in jpeg for sign in _SIGNS):
        return UPRIGHT
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            number = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Damaged EXIF is no reason to lose a picture, and Pillow raises all kinds of errors for it.
        return UPRIGHT
    return number if isinstance(number, int) and 1 <= number <= 8 else UPRIGHT


def turned_by_pillow(picture: Image.Image) -> Image.Image:
    """A picture as it is to be seen. (Some kinds, such as TIFF, Pillow turns by itself as it decodes them.)"""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # As above.
        return picture


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
