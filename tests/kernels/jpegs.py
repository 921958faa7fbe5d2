"""JPEGs of every kind for the kernels' tests, by OpenCV; what libturbojpeg itself makes of one."""

import ctypes

import cv2
import numpy as np

from ffx.kernels.turbojpeg import library

__all__ = [
    "FAST_KINDS",
    "KINDS",
    "SUBSAMPLING",
    "UNIT_HEIGHT",
    "UNIT_WIDTH",
    "decode_by_library",
    "find_segment",
    "make_jpeg",
    "markers",
    "random_crop",
]

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


# What ffx upsamples fast if it is asked to; of the other kinds all but the unusual have nothing to upsample.
FAST_KINDS = ("4:2:0", "4:2:2")

# TJFLAG_FASTUPSAMPLE, TJFLAG_ACCURATEDCT, TJFLAG_STOPONWARNING and TJFLAG_LIMITSCANS of turbojpeg.h.
_FAST_UPSAMPLING, _STRICT = 256, 4096 | 8192 | 32768


def decode_by_library(jpeg: np.ndarray, height: int, width: int, fast: bool = False) -> np.ndarray | None:
    """`uint8[height, width, 3]` by libturbojpeg alone, without any of ffx's code; `None` where it refuses or warns."""
    turbojpeg = library()
    assert turbojpeg is not None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    turbojpeg.tjInitDecompress.restype, turbojpeg.tjInitDecompress.argtypes = pointer, []
    turbojpeg.tjDestroy.argtypes = [pointer]
    turbojpeg.tjDecompressHeader3.argtypes = [pointer, pointer, ctypes.c_ulong, *[pointer] * 4]
    turbojpeg.tjDecompress2.argtypes = [pointer, pointer, ctypes.c_ulong, pointer, *[number] * 5]
    handle = turbojpeg.tjInitDecompress()
    assert handle
    try:
        found = (number * 4)()
        words = [ctypes.addressof(found) + 4 * word for word in range(4)]
        if turbojpeg.tjDecompressHeader3(handle, jpeg.ctypes.data, jpeg.size, *words) != 0:
            return None
        if (found[1], found[0]) != (height, width):
            return None
        pixels = np.empty((height, width, 3), np.uint8)
        target = (pixels.ctypes.data, width, 3 * width, height, 0, _STRICT | (_FAST_UPSAMPLING if fast else 0))
        return pixels if turbojpeg.tjDecompress2(handle, jpeg.ctypes.data, jpeg.size, *target) == 0 else None
    finally:
        turbojpeg.tjDestroy(handle)
