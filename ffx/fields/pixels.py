"""The writer's side of pixels: decode and shrink in compiled code where that gives the very same pixels.

An ordinary JPEG is decoded by ffx's own decoder or by libturbojpeg, and a picture is shrunk by a twin of
OpenCV's loop. They are held against Pillow and OpenCV, on this machine and with these versions, before they
are used the first time; whatever is not ordinary, or where a result differs, goes through Pillow and OpenCV.
"""

from __future__ import annotations

import functools
import io
import sys
import threading
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ..kernels.area import shrink_area
from ..kernels.jpeg import MOST_SCANS, decode_whole, release_decoder
from ..kernels.memory import THREAD_WORDS, release_thread
from ..kernels.step import OK
from .jpeg_header import JpegHeader, read_jpeg_header

__all__ = [
    "EncodedPicture",
    "decode_ordinary_jpeg",
    "decoded_strictly",
    "is_bomb",
    "is_ordinary",
    "prepare_pixels",
    "probe",
    "shrink",
    "workspace_address",
]

# The sampling factors (horizontal, vertical) of the first component, where the others have 1 x 1: all versions of
# the library upsample the chroma of these in the same way.
_SAMPLINGS = ((1, 1), (2, 1), (2, 2))


@dataclass(frozen=True)
class EncodedPicture:
    """An encoded picture that stands for its pixels: always decoded, never stored as it is.

    Attributes:
        data: its bytes.
    """

    data: bytes


class _Words:
    """A thread's decoder and its scratch memory, given back when the thread ends.

    An object in a `threading.local` is forgotten with its thread; the local itself is not.
    """

    def __init__(self) -> None:
        self.words = np.zeros(THREAD_WORDS, np.int64)

    def __del__(self) -> None:
        # When the process ends, so does its memory.
        if not sys.is_finalizing():
            release_decoder(self.words)
            release_thread(self.words)


class _Workspace(threading.local):
    """A thread's decoder, its scratch memory, and room for pixels that are needed for a moment."""

    def __init__(self) -> None:
        self.own = _Words()
        self.rooms: dict[str, np.ndarray] = {}

    def room(self, purpose: str, height: int, width: int) -> np.ndarray:
        """`uint8[height, width, 3]`, the same memory for the same purpose each time: no fresh pages to be made."""
        size = 3 * height * width
        room = self.rooms.get(purpose)
        if room is None or room.size < size:
            room = self.rooms[purpose] = np.empty(size + size // 4, np.uint8)
        return room[:size].reshape(height, width, 3)

    @property
    def address(self) -> int:
        return self.own.words.ctypes.data


_workspace = _Workspace()


def workspace_address() -> int:
    """The address of this thread's words (`ffx.kernels.memory`), good until the thread ends."""
    return _workspace.address


def is_ordinary(header: JpegHeader | None) -> bool:
    """Whether a JPEG is of a kind that every decoder turns into the same pixels, and of a size that Pillow takes."""
    if header is None or not header.decodes_to_rgb or not header.complete or is_bomb(header):
        return False
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and header.width * header.height > most:
        return False
    return header.components == 1 or (header.sampling[0] in _SAMPLINGS and set(header.sampling[1:]) == {(1, 1)})


def is_bomb(header: JpegHeader) -> bool:
    """Whether a JPEG is an attack on memory, of a size that Pillow refuses, or on time, by its number of scans."""
    most = Image.MAX_IMAGE_PIXELS
    return header.scans > MOST_SCANS or (most is not None and header.width * header.height > 2 * most)


def _decode(data: bytes, header: JpegHeader, for_a_moment: bool = False) -> np.ndarray | None:
    source = np.frombuffer(data, np.uint8)
    if for_a_moment:
        pixels = _workspace.room("decoded", header.height, header.width)
    else:
        pixels = np.empty((header.height, header.width, 3), np.uint8)
    return pixels if _decode_into(source, pixels) else None


def _decode_into(source: np.ndarray, pixels: np.ndarray) -> bool:
    height, width = pixels.shape[:2]
    return (
        decode_whole(_workspace.address, source.ctypes.data, source.size, height, width, pixels.ctypes.data, 3 * width)
        == OK
    )


def decode_ordinary_jpeg(data: bytes, for_a_moment: bool = False) -> np.ndarray | None:
    """The pixels of a JPEG, `uint8[height, width, 3]`, exactly as Pillow decodes them; `None` to ask Pillow itself.

    With `for_a_moment` they stay only until this thread decodes the next one.
    """
    header = read_jpeg_header(data)
    if header is None or not is_ordinary(header) or not _decoder_agrees():
        return None
    return _decode(data, header, for_a_moment)


def decoded_strictly(data: bytes | np.ndarray, height: int, width: int, purpose: str = "strict") -> np.ndarray | None:
    """`uint8[height, width, 3]` as the loader decodes it, which is stricter than most; `None` where it refuses.

    The pixels stay only until this thread decodes the next one for the same purpose.
    """
    pixels = _workspace.room(purpose, height, width)
    return pixels if _decode_into(np.frombuffer(data, np.uint8), pixels) else None


def _shrink(image: np.ndarray, smaller: np.ndarray) -> bool:
    height, width = image.shape[:2]
    rows, columns = smaller.shape[:2]
    status = shrink_area(
        image.ctypes.data, image.strides[0], height, width, smaller.ctypes.data, rows, columns, _workspace.address
    )
    return status == OK


def shrink(
    image: np.ndarray, size: tuple[int, int], *, for_a_moment: bool = False, into: np.ndarray | None = None
) -> np.ndarray:
    """An image made `(width, height)`, no side longer than before, by area averaging, as OpenCV makes it.

    Args:
        for_a_moment: it stays only until this thread shrinks the next one.
        into: where to make it, C-contiguous `uint8[height, width, 3]` of that size.
    """
    height, width = image.shape[:2]
    of_rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.strides[1:] == (3, 1)
    if of_rgb and (width % size[0] or height % size[1]) and _shrinking_agrees():
        if into is None and for_a_moment:
            smaller = _workspace.room("shrunk", size[1], size[0])
        else:
            smaller = np.empty((size[1], size[0], 3), np.uint8) if into is None else into
        if _shrink(image, smaller):
            return smaller
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if into is None:
        return smaller
    into[:] = smaller
    return into


def prepare_pixels() -> None:
    """Compile and check what this module uses, so that a process that is forked afterwards need not."""
    _decoder_agrees()
    _shrinking_agrees()


def probe(height: int, width: int) -> np.ndarray:
    """A picture with noise, edges and smooth parts."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(-40, 40, (height, width, 3))
    waves = 128 + 90 * np.sin(rows / 5 + columns / 9) + 60 * (columns > width // 2)
    return np.clip(waves[..., None] * (1.0, 0.8, 1.1) + noise, 0, 255).astype(np.uint8)


@functools.cache
def _decoder_agrees() -> bool:
    """Whether ffx and libturbojpeg, if there is one, make the pixels that Pillow makes."""
    for subsampling in (0, 1, 2):
        # Progressive pictures go to the library.
        for progressive in (False, True):
            stream = io.BytesIO()
            options = {"quality": 92, "subsampling": subsampling, "progressive": progressive}
            Image.fromarray(probe(61, 83)).save(stream, "JPEG", **options)
            data = stream.getvalue()
            header = read_jpeg_header(data)
            pixels = _decode(data, header) if header is not None and is_ordinary(header) else None
            if pixels is None or not np.array_equal(pixels, np.asarray(Image.open(stream).convert("RGB"))):
                return False
    return True


@functools.cache
def _shrinking_agrees() -> bool:
    """Whether OpenCV adds up in the order of `shrink_area` (it may be compiled to fuse products and sums)."""
    for size in ((52, 39), (66, 50), (31, 49), (9, 50), (66, 7)):
        picture = probe(50, 67)
        smaller = np.empty((size[1], size[0], 3), np.uint8)
        expected = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        if not _shrink(picture, smaller) or not np.array_equal(smaller, expected):
            return False
    return True
