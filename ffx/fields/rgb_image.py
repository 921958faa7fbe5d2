"""RGB images: stored as raw pixels, as JPEG, or as a mixture of both."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile

from ..errors import FieldError
from ..format import IMAGE_METADATA, IMAGE_MODES, is_image_extension, pack_image_extension
from ..kernels.checksum import xxh64
from ..kernels.rng import uniform
from ..kernels.yuv import yuv420_bytes
from ..kernels.yuv_encode import rgb_to_yuv420
from ..pipeline.operation import Operation
from .base import ARG_TYPE, Field, Malloc, no_arguments
from .image_decoders import (
    CenterCropRGBImageDecoder,
    RandomResizedCropRGBImageDecoder,
    ResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
    get_center_crop,
    get_random_crop,
)
from .jpeg_damage import jpeg_damage
from .jpeg_header import JpegHeader, read_jpeg_header
from .orientation import UPRIGHT, orientation_of, turned, turned_by_pillow
from .pixels import (
    EncodedPicture,
    decode_ordinary_jpeg,
    decoded_strictly,
    is_bomb,
    prepare_pixels,
    shrink,
)
from .tiled_jpeg import encode_in_tiles, encode_untiled, retiled

__all__ = [
    "IMAGE_MODES",
    "CenterCropRGBImageDecoder",
    "RGBImageField",
    "RandomResizedCropRGBImageDecoder",
    "ResizedCropRGBImageDecoder",
    "SimpleRGBImageDecoder",
    "encode_jpeg",
    "get_center_crop",
    "get_random_crop",
    "resizer",
]

WRITE_MODES = ("raw", "jpg", "smart", "proportion", "yuv420")
RAW_FORMATS = ("rgb", "yuv420")
ORIENTATIONS = ("ignore", "apply")
_MOST_PIXELS_A_SIDE = 65535


def encode_jpeg(image: np.ndarray, quality: int, in_tiles: bool = False) -> np.ndarray:
    """`uint8[n]`: an RGB image `uint8[height, width, 3]` as JPEG, by OpenCV as FFCV does it.

    With `in_tiles` the same coefficients get restart markers and the best Huffman codes (`ffx.fields.tiled_jpeg`).
    """
    return encode_in_tiles(image, quality) if in_tiles else encode_untiled(image, quality)


def resized_size(width: int, height: int, longest: int | None) -> tuple[int, int]:
    """`(width, height)` with no side longer than `longest`, rounded down as FFCV does; never enlarged."""
    if longest is None or max(width, height) <= longest:
        return width, height
    ratio = longest / max(width, height)
    return max(1, int(ratio * width)), max(1, int(ratio * height))


def resizer(
    image: np.ndarray,
    target_resolution: int | None,
    *,
    for_a_moment: bool = False,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """`image` shrunk by area averaging until no side is longer than `target_resolution` pixels.

    With `for_a_moment` the result stays only until this thread shrinks the next one. With `into`, C-contiguous
    `uint8[height, width, 3]` of the right size, it is made there.
    """
    height, width = image.shape[:2]
    size = resized_size(width, height, target_resolution)
    if size != (width, height):
        return shrink(image, size, for_a_moment=for_a_moment, into=into)
    if into is None:
        return image
    into[:] = image
    return into


def _from_encoded(data: bytes, for_a_moment: bool, upright: bool) -> np.ndarray:
    """Pixels of an encoded image, as Pillow (and so torchvision's ImageFolder) decodes them."""
    pixels = decode_ordinary_jpeg(data, for_a_moment)
    if pixels is not None:
        return turned(pixels, orientation_of(data)) if upright else pixels
    # Pillow makes grey of what is missing. Whoever wants that says so to Pillow.
    damage = None if ImageFile.LOAD_TRUNCATED_IMAGES else jpeg_damage(data)
    if damage is not None:
        raise FieldError(
            f"expected an encoded image, found a JPEG of {len(data)} bytes that is damaged ({damage}); repair it or "
            "leave it out, or set PIL.ImageFile.LOAD_TRUNCATED_IMAGES to store what Pillow makes of it"
        )
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray((turned_by_pillow(image) if upright else image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FieldError(f"expected an encoded image, found {len(data)} bytes that Pillow refuses: {error}") from error


def _from_tensor(tensor: torch.Tensor) -> np.ndarray:
    array = tensor.numpy(force=True)
    # torch's own order is channels first.
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] == 3 else array


def as_pixels(value: Any, *, for_a_moment: bool = False, upright: bool = False) -> np.ndarray:
    """An image in any of the accepted forms as `uint8[height, width, 3]`; with `upright` turned as EXIF says.

    With `for_a_moment` decoded pixels stay only until this thread decodes the next image.

    Raises:
        FieldError: it is none, or has no or too many pixels.
    """
    if isinstance(value, Image.Image):
        try:
            picture = turned_by_pillow(value) if upright else value
            pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise FieldError(f"Pillow could not decode the image: {error}") from error
    elif isinstance(value, EncodedPicture):
        return as_pixels(value.data, for_a_moment=for_a_moment, upright=upright)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        pixels = _from_encoded(value if isinstance(value, bytes) else bytes(value), for_a_moment, upright)
    else:
        pixels = _from_tensor(value) if isinstance(value, torch.Tensor) else value
    found = f"{type(value).__name__}"
    if isinstance(pixels, np.ndarray):
        if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
            if min(pixels.shape[:2]) > 0 and max(pixels.shape[:2]) <= _MOST_PIXELS_A_SIDE:
                return np.ascontiguousarray(pixels)
            found = f"{pixels.shape[0]} x {pixels.shape[1]} pixels; sides go from 1 to {_MOST_PIXELS_A_SIDE}"
        else:
            found += f" of {pixels.dtype}{pixels.shape}"
    raise FieldError(
        "expected an image: PIL, uint8[height, width, 3], a uint8 tensor, or an encoded image's bytes or path; "
        f"found {found}"
    )


def _reserve(malloc: Malloc, size: int) -> tuple[int, np.ndarray]:
    """Memory that will be written to whole, so ffx's own `malloc` need not fill it with zeros."""
    return getattr(malloc, "unfilled", malloc)(size)


class RGBImageField(Field):
    """RGB images of any size.

    Values are PIL images, `uint8[height, width, 3]` arrays, uint8 tensors (channels first or last), or
    encoded images as `bytes` or as the path of a file. An encoded JPEG that is to be stored as JPEG and
    needs no resizing is stored without another loss (`pass_through`).

    Args:
        write_mode: `"raw"` (pixels), `"jpg"`, `"smart"` (JPEG where the pixels take more than
            `smart_threshold` bytes) or `"proportion"` (JPEG with probability `compress_probability`).
            `"yuv420"` stands for `"raw"` with `raw_format="yuv420"`.
        max_resolution: longest side in pixels; larger images are shrunk.
        smart_threshold: in bytes of the image's pixels, 3 each; `None`, as in FFCV, stores every image raw.
        jpeg_quality: 1 to 100.
        compress_probability: which samples are JPEG depends only on the writer's seed, the field's
            name and the sample's index in the file.
        pass_through: store suitable JPEG values without encoding them again.
        tiled: JPEGs that are made get restart markers and the best Huffman codes, so that a crop decodes
            only what lies under it (`ffx.kernels.tiles`). Their pixels are the same and any decoder reads
            them; without it the bytes are those that FFCV stores.
        retile: the same for JPEGs that are stored as they are, without loss; what cannot be changed safely
            is kept byte for byte, as everything is without it.
        orientation: `"ignore"`: pixels as Pillow decodes them, as FFCV and torchvision's ImageFolder take them;
            `"apply"`: pictures that a camera marked as lying on their side (EXIF) are turned upright.
        raw_format: how images that are not JPEG are stored: `"rgb"`, or `"yuv420"`, planar YUV with chroma of half
            the resolution, which takes half the bytes and which FFCV cannot read (it refuses the file).

    Raises:
        FieldError: an argument is out of its range.
    """

    # A subclass may never call `__init__`.
    raw_format: str = "rgb"
    write_mode: str = "raw"
    orientation: str = "ignore"

    def __init__(
        self,
        write_mode: str = "raw",
        max_resolution: int | None = None,
        smart_threshold: int | None = None,
        jpeg_quality: int = 90,
        compress_probability: float = 0.5,
        *,
        pass_through: bool = True,
        tiled: bool = True,
        retile: bool = True,
        orientation: str = "ignore",
        raw_format: str = "rgb",
    ) -> None:
        if write_mode not in WRITE_MODES:
            raise FieldError(f"write_mode: expected one of {', '.join(WRITE_MODES)}, found {write_mode!r}")
        if max_resolution is not None and int(max_resolution) < 1:
            raise FieldError(f"max_resolution: expected at least 1 pixel or None, found {max_resolution!r}")
        if not 1 <= int(jpeg_quality) <= 100:
            raise FieldError(f"jpeg_quality: expected 1 to 100, found {jpeg_quality!r}")
        if not 0 <= compress_probability <= 1:
            raise FieldError(f"compress_probability: expected 0 to 1, found {compress_probability!r}")
        if raw_format not in RAW_FORMATS:
            raise FieldError(f"raw_format: expected one of {', '.join(RAW_FORMATS)}, found {raw_format!r}")
        if orientation not in ORIENTATIONS:
            raise FieldError(f"orientation: expected one of {', '.join(ORIENTATIONS)}, found {orientation!r}")
        self.write_mode = "raw" if write_mode == "yuv420" else write_mode
        self.raw_format = "yuv420" if write_mode == "yuv420" else raw_format
        self.max_resolution = None if max_resolution is None else int(max_resolution)
        self.smart_threshold = smart_threshold
        self.jpeg_quality = int(jpeg_quality)
        self.proportion = compress_probability
        self.pass_through = pass_through
        self.tiled = tiled
        self.retile = retile
        self.orientation = orientation

    @property
    def metadata_type(self) -> np.dtype:
        return IMAGE_METADATA

    @property
    def raw_mode(self) -> str:
        """The mode (`IMAGE_MODES`) of samples that are not JPEG; `"raw"` where all are."""
        return "yuv420" if self.raw_format == "yuv420" and self.write_mode != "jpg" else "raw"

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> RGBImageField:
        field = cls()
        if is_image_extension(binary):
            field.raw_format = "yuv420"
        return field

    def to_binary(self) -> np.void:
        if self.raw_mode == "raw":
            return no_arguments()
        return pack_image_extension().view(ARG_TYPE)[0]

    def get_decoder_class(self) -> type[Operation]:
        return SimpleRGBImageDecoder

    def settings(self) -> dict[str, Any]:
        return {
            "write_mode": self.write_mode,
            "max_resolution": self.max_resolution,
            "smart_threshold": self.smart_threshold,
            "jpeg_quality": self.jpeg_quality,
            "compress_probability": self.proportion,
            "pass_through": self.pass_through,
            "tiled": self.tiled,
            "retile": self.retile,
            "orientation": self.orientation,
            "raw_format": self.raw_format,
        }

    def prepare_encoding(self) -> None:
        prepare_pixels()
        pixels = np.zeros((16, 16, 3), np.uint8)
        if self.write_mode != "raw":
            encode_jpeg(pixels, self.jpeg_quality, self.tiled)
        if self.raw_mode == "yuv420":
            rgb_to_yuv420(pixels, np.empty(yuv420_bytes(16, 16), np.uint8))

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        value = field
        if isinstance(value, (str, os.PathLike)):
            with open(value, "rb") as handle:
                value = handle.read()
        elif isinstance(value, (bytearray, memoryview)):
            # What is checked is what is stored, whoever writes there meanwhile.
            value = bytes(value)
        as_it_is = self._suitable_jpeg(value)
        pixels = self._pixels(value, for_a_moment=True) if as_it_is is None else None
        if pixels is None:
            assert as_it_is is not None
            width, height = as_it_is.width, as_it_is.height
        else:
            width, height = resized_size(pixels.shape[1], pixels.shape[0], self.max_resolution)
        mode = self._mode(3 * height * width, malloc, value if pixels is None else pixels)
        if mode == "jpg":
            data = None if as_it_is is None else self._kept_jpeg(value, as_it_is)
            if data is None:
                pixels = self._pixels(value) if pixels is None else pixels
                pixels = resizer(pixels, self.max_resolution, for_a_moment=True)
                data = encode_jpeg(pixels, self.jpeg_quality, self.tiled)
            pointer, buffer = _reserve(malloc, data.size)
            buffer[:] = data
        else:
            mode = self.raw_mode
            pointer = self._store_pixels(self._pixels(value) if pixels is None else pixels, height, width, malloc)
        destination["mode"] = IMAGE_MODES[mode]
        destination["width"], destination["height"] = width, height
        destination["data_ptr"] = pointer

    def _pixels(self, value: Any, for_a_moment: bool = False) -> np.ndarray:
        return as_pixels(value, for_a_moment=for_a_moment, upright=self.orientation == "apply")

    def _store_pixels(self, pixels: np.ndarray, height: int, width: int, malloc: Malloc) -> int:
        """Shrink an image to a size and store its pixels, without another copy of them; the pointer to them."""
        if resized_size(pixels.shape[1], pixels.shape[0], self.max_resolution) != (width, height):
            raise FieldError("a JPEG's header and its pixels differ in size")
        if self.raw_mode == "raw":
            pointer, buffer = _reserve(malloc, 3 * height * width)
            resizer(pixels, self.max_resolution, into=buffer.reshape(height, width, 3))
        else:
            pointer, buffer = _reserve(malloc, yuv420_bytes(height, width))
            smaller = resizer(pixels, self.max_resolution, for_a_moment=True)
            # Pillow's pixels are read-only, for which numba would compile it once more.
            rgb_to_yuv420(np.require(smaller, requirements=["C", "W"]), buffer)
        return pointer

    def _suitable_jpeg(self, value: Any) -> JpegHeader | None:
        """The header of a JPEG that may be stored as it is, if the mode is JPEG; else `None`."""
        if not self.pass_through or self.write_mode == "raw" or isinstance(value, EncodedPicture):
            return None
        if not isinstance(value, bytes):
            return None
        header = read_jpeg_header(value)
        if header is None or not header.decodes_to_rgb or not header.complete or is_bomb(header):
            return None
        if self.orientation == "apply" and orientation_of(value) != UPRIGHT:
            return None
        size = (header.width, header.height)
        return header if resized_size(*size, self.max_resolution) == size else None

    def _kept_jpeg(self, value: bytes, header: JpegHeader) -> np.ndarray | None:
        """The bytes to store for a suitable JPEG; `None` where the loader's decoder refuses it.

        Training would be too late to find that out.
        """
        jpeg = np.frombuffer(value, np.uint8)
        in_tiles = retiled(jpeg, header.height, header.width, header.frame) if self.retile else None
        if in_tiles is not None:
            return in_tiles
        return jpeg if decoded_strictly(jpeg, header.height, header.width) is not None else None

    def _mode(self, raw_bytes: int, malloc: Malloc, content: np.ndarray | bytes) -> str:
        if self.write_mode == "smart":
            return "jpg" if self.smart_threshold is not None and raw_bytes > self.smart_threshold else "raw"
        if self.write_mode == "proportion":
            return "jpg" if self._draw(malloc, content) < self.proportion else "raw"
        return self.write_mode

    @staticmethod
    def _draw(malloc: Malloc, content: np.ndarray | bytes) -> float:
        """A number in [0, 1) that belongs to this sample: see `ffx.writer`."""
        if hasattr(malloc, "draw"):
            return malloc.draw()
        # Another writer calls: it says nothing of the sample, so the number belongs to its content.
        return float(uniform(np.int64(0), np.uint64(xxh64(content)), 0, 0))
