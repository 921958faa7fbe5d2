"""JPEGs of every kind for the kernels' tests, by OpenCV."""

import cv2
import numpy as np

__all__ = ["KINDS", "SUBSAMPLING", "UNIT_HEIGHT", "UNIT_WIDTH", "find_segment", "make_jpeg", "markers", "random_crop"]

SUBSAMPLING = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
KINDS = [*SUBSAMPLING, "grey"]
UNIT_WIDTH = {"4:4:4": 8, "4:2:2": 16, "4:2:0": 16, "4:4:0": 8, "4:1:1": 32, "grey": 8}
UNIT_HEIGHT = {"4:4:4": 8, "4:2:2": 8, "4:2:0": 16, "4:4:0": 16, "4:1:1": 8, "grey": 8}


def make_jpeg(
    picture: np.ndarray,
    kind: str = "4:2:0",
    interval: int = 0,
    optimised: bool = False,
    quality: int = 90,
    progressive=False,
) -> np.ndarray:
    """`uint8[n]`: an RGB picture as JPEG with a restart marker every `interval` MCUs."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, interval]
    options += [cv2.IMWRITE_JPEG_OPTIMIZE, int(optimised), cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    if kind == "grey":
        return cv2.imencode(".jpg", np.ascontiguousarray(picture[..., 0]), options)[1].reshape(-1)
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SUBSAMPLING[kind]]
    return cv2.imencode(".jpg", picture[..., ::-1], options)[1].reshape(-1)


def random_crop(generator, height, width):
    """A crop `(top, left, height, width)` anywhere in a picture."""
    top, left = int(generator.integers(0, height)), int(generator.integers(0, width))
    return top, left, int(generator.integers(1, height - top + 1)), int(generator.integers(1, width - left + 1))


def find_segment(jpeg: np.ndarray, marker: int) -> int:
    """Offset of the first segment with this marker (its FF)."""
    position = 2
    while True:
        assert jpeg[position] == 0xFF
        if jpeg[position + 1] == marker:
            return position
        assert jpeg[position + 1] != 0xDA, f"no segment {marker:x}"
        position += 2 + (int(jpeg[position + 2]) << 8 | int(jpeg[position + 3]))


def markers(jpeg: np.ndarray) -> list[int]:
    """Offsets of the restart markers (their FF)."""
    found = np.flatnonzero((jpeg[:-1] == 0xFF) & (jpeg[1:] >= 0xD0) & (jpeg[1:] <= 0xD7))
    return [int(place) for place in found if place > find_segment(jpeg, 0xDA)]
