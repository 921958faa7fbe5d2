"""Batches of crop requests with made images, for the kernels that crop on a device; importable by scripts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffx.kernels.crop_request import REQUEST_WORDS, write_request
from ffx.kernels.stored_image import RAW_MODE, YUV420_MODE
from ffx.kernels.taps import ANTIALIAS, AREA, BILINEAR
from tests.pictures import make_picture

MODES = {"raw": RAW_MODE, "yuv420": YUV420_MODE}
INTERPOLATIONS = {"area": AREA, "antialias": ANTIALIAS, "bilinear": BILINEAR}

# Height and width of an image, then its crop: top, left, height, width.
FEW_TAPS = [
    ((30, 40), (3, 5, 22, 31)),
    ((31, 43), (1, 1, 30, 42)),  # odd sizes and origins
    ((40, 40), (11, 7, 9, 14)),  # enlarged
    ((50, 15), (0, 2, 50, 10)),  # one axis shrinks, the other grows
    ((17, 33), (0, 0, 17, 33)),  # as it is, for a target of that size
    ((33, 47), (32, 46, 1, 1)),  # the last pixel
    ((7, 5), (0, 0, 7, 5)),
]
MANY_TAPS = [((130, 260), (1, 3, 128, 256)), ((61, 83), (0, 0, 61, 83)), ((300, 20), (7, 2, 290, 18))]
CASES = {"few": FEW_TAPS, "many": MANY_TAPS}


def yuv420(height: int, width: int, seed: int) -> np.ndarray:
    """Planes of a made picture, as one row of bytes; chroma is arbitrary, out of range of RGB too."""
    half = ((height + 1) // 2, (width + 1) // 2)
    planes = [make_picture(height, width, seed, channels=1)]
    planes += [make_picture(*half, seed=seed + number, channels=1) for number in (1, 2)]
    return np.concatenate([plane.reshape(-1) for plane in planes])


def plane_pixels(data: np.ndarray, height: int, width: int) -> np.ndarray:
    """Y, U, V of each pixel, `float64[height, width, 3]`: each chroma value repeated over its block."""
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    luma = data[: height * width].reshape(height, width)
    chroma = data[height * width :].reshape(2, half_height, half_width)
    chroma = chroma.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    return np.stack([luma, *chroma], axis=2).astype(np.float64)


@dataclass
class Batch:
    """Requests, the data that they point into, each sample's stored image, the target's `(height, width)`."""

    requests: np.ndarray
    data: np.ndarray
    images: list[np.ndarray]
    target: tuple[int, int]


def batch_of(combination: str) -> Batch:
    """The batch for `"MODE INTERPOLATION CASES HEIGHT WIDTH"`, such as `"raw area few 17 33"`.

    One request for each case, every second one mirrored; images lie at odd offsets of `data`.
    """
    mode_name, interpolation, cases, *sides = combination.split()
    mode, target = MODES[mode_name], (int(sides[0]), int(sides[1]))
    requests = np.zeros((len(CASES[cases]), REQUEST_WORDS), dtype=np.int64)
    images, place, pieces = [], 0, []
    for number, ((height, width), crop) in enumerate(CASES[cases]):
        raw = mode == RAW_MODE
        image = make_picture(height, width, number).reshape(-1) if raw else yuv420(height, width, 10 * number)
        pieces += [np.full(number + 1, 0xA5, np.uint8), image]
        place += number + 1
        rule = INTERPOLATIONS[interpolation]
        write_request(requests[number], place, mode, height, width, crop, number % 2, rule, *target)
        place += image.size
        images.append(image)
    return Batch(requests, np.concatenate(pieces), images, target)
