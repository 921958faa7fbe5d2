"""ffx's kernels and their peers' functions, each alone: one picture, one call, no loader around it.

The only place among the programs that reaches into `ffx.kernels`, whose names are not public: a kernel cannot be
measured from outside. Loops over pictures are in Python on both sides and cost each contender the same microsecond.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffx.kernels.jpeg import decode_region, decode_whole
from ffx.kernels.memory import THREAD_WORDS
from ffx.kernels.resize import resize_crop
from ffx.kernels.taps import AREA

from .harness import Round
from .worker import timed

__all__ = ["DECODERS", "RESIZERS", "centre_crop", "open_decode", "open_resize"]

Crop = tuple[int, int, int, int]  # top, left, height, width


def centre_crop(height: int, width: int, share: float) -> Crop:
    """The middle part that has `share` of a picture's area and its shape."""
    rows, columns = max(1, round(height * share**0.5)), max(1, round(width * share**0.5))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _thread() -> np.ndarray:
    return np.zeros(THREAD_WORDS, np.int64)


def _check(status: int) -> None:
    if status != 0:
        raise SystemExit(f"benchmarks: a kernel of ffx returned status {status}")


# Decoding: (JPEG, height, width, crop) -> nothing


def _ffx_crop() -> Callable[[np.ndarray, int, int, Crop], None]:
    """ffx: the part of the picture that the crop needs."""
    words = _thread()

    def decode(data: np.ndarray, height: int, width: int, crop: Crop) -> None:
        _check(decode_region(words.ctypes.data, data.ctypes.data, data.size, height, width, *crop)[0])

    return decode


def _ffx_whole() -> Callable[[np.ndarray, int, int, Crop], None]:
    """ffx: the whole picture."""
    words, target = _thread(), np.empty(1, np.uint8)

    def decode(data: np.ndarray, height: int, width: int, crop: Crop) -> None:
        nonlocal target
        if target.size < 3 * height * width:
            target = np.empty(3 * height * width, np.uint8)
        place, stride = target.ctypes.data, 3 * width
        _check(decode_whole(words.ctypes.data, data.ctypes.data, data.size, height, width, place, stride))

    return decode


def _opencv_decode() -> Callable[[np.ndarray, int, int, Crop], None]:
    """OpenCV on its own libjpeg-turbo: the whole picture, as BGR."""
    cv2.setNumThreads(0)
    return lambda data, height, width, crop: cv2.imdecode(data, cv2.IMREAD_COLOR)


def _pillow_decode() -> Callable[[np.ndarray, int, int, Crop], None]:
    """Pillow: the whole picture."""
    from PIL import Image

    return lambda data, height, width, crop: Image.open(io.BytesIO(data.data)).load()


def _torchvision_decode() -> Callable[[np.ndarray, int, int, Crop], None]:
    """torchvision.io: the whole picture, channels first."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    torch.set_num_threads(1)
    return lambda data, height, width, crop: decode_jpeg(torch.from_numpy(data), ImageReadMode.RGB)


DECODERS = {
    "ffx, the crop's part": _ffx_crop,
    "ffx, whole": _ffx_whole,
    "OpenCV, whole": _opencv_decode,
    "Pillow, whole": _pillow_decode,
    "torchvision, whole": _torchvision_decode,
}


def open_decode(decoder: str, paths: Sequence[str], share: float, passes: int) -> Callable[[], Round]:
    """A round: decode each JPEG `passes` times, for a middle crop of `share` of its area (see `Contender`)."""
    jpegs = []
    for path in paths:
        data = np.fromfile(path, np.uint8)
        height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
        jpegs.append((data, height, width, centre_crop(height, width, share)))
    decode = DECODERS[decoder]()

    def work() -> int:
        for _ in range(passes):
            for jpeg in jpegs:
                decode(*jpeg)
        return passes * len(jpegs)

    return lambda: timed(work)


# Resizing: (picture, crop, side) -> nothing


def _ffx_resize() -> Callable[[np.ndarray, Crop, int], None]:
    """ffx: `INTER_AREA`'s weights, mirroring free."""
    words = _thread()
    target = np.empty(1, np.uint8)

    def resize(picture: np.ndarray, crop: Crop, side: int) -> None:
        nonlocal target
        if target.size != 3 * side * side:
            target = np.empty(3 * side * side, np.uint8)
        size = (side, side)
        stride, (height, width) = picture.strides[0], picture.shape[:2]
        _check(
            resize_crop(
                picture.ctypes.data, stride, height, width, *crop, target.ctypes.data, *size, 0, AREA, words.ctypes.data
            )
        )

    return resize


def _part(picture: np.ndarray, crop: Crop) -> np.ndarray:
    top, left, height, width = crop
    return picture[top : top + height, left : left + width]


def _opencv_resize(interpolation: int) -> Callable[[], Callable[[np.ndarray, Crop, int], Any]]:
    def make() -> Callable[[np.ndarray, Crop, int], Any]:
        cv2.setNumThreads(0)
        return lambda picture, crop, side: cv2.resize(_part(picture, crop), (side, side), interpolation=interpolation)

    return make


def _pillow_resize() -> Callable[[np.ndarray, Crop, int], Any]:
    """Pillow: an antialiased bilinear filter over the crop."""
    from PIL import Image

    images: dict[int, Any] = {}

    def resize(picture: np.ndarray, crop: Crop, side: int) -> None:
        # Making the Image is no part of the work: a program that uses Pillow has one already.
        if id(picture) not in images:
            images[id(picture)] = Image.fromarray(picture)
        top, left, height, width = crop
        images[id(picture)].resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))

    return resize


def _torchvision_resize() -> Callable[[np.ndarray, Crop, int], Any]:
    """torchvision: an antialiased bilinear filter over a uint8 tensor in channels-last memory, its fast path."""
    import torch
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)

    def resize(picture: np.ndarray, crop: Crop, side: int) -> None:
        image = torch.from_numpy(picture).permute(2, 0, 1)
        functional.resized_crop(image, *crop, [side, side], antialias=True)

    return resize


RESIZERS = {
    "ffx": _ffx_resize,
    "OpenCV, INTER_AREA": _opencv_resize(cv2.INTER_AREA),
    "OpenCV, INTER_LINEAR": _opencv_resize(cv2.INTER_LINEAR),
    "Pillow, bilinear": _pillow_resize,
    "torchvision, bilinear": _torchvision_resize,
}


def open_resize(resizer: str, paths: Sequence[str], crop: Sequence[int], side: int, passes: int) -> Callable[[], Round]:
    """A round: resize a middle crop `(height, width)` of each picture to `side`, `passes` times (see `Contender`).

    Pictures that are smaller than the crop are enlarged first, so that all take the same work.
    """
    pictures = [_at_least(_read(Path(path)), crop) for path in paths]
    places = [((p.shape[0] - crop[0]) // 2, (p.shape[1] - crop[1]) // 2, crop[0], crop[1]) for p in pictures]
    resize = RESIZERS[resizer]()

    def work() -> int:
        for _ in range(passes):
            for picture, place in zip(pictures, places, strict=True):
                resize(picture, place, side)
        return passes * len(pictures)

    return lambda: timed(work)


def _read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _at_least(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    factor = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    if factor <= 1:
        return picture
    height, width = (max(least, round(factor * side)) for least, side in zip(size, picture.shape, strict=False))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
