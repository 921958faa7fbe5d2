"""Encoded images that are not ordinary JPEGs, sound and damaged ones: see `docs/strange_images.md`."""

import functools
import io
import zlib

import numpy as np
from PIL import Image

from tests.fuzz.jpeg_mutations import arithmetic_jpeg, split
from tests.kernels.jpegs import SUBSAMPLING, make_jpeg
from tests.pictures import make_picture

__all__ = ["HEIGHT", "WIDTH", "damaged_images", "jpeg_bomb", "png_bomb", "scan_bomb", "sound_images"]

HEIGHT, WIDTH = 48, 64
_END = b"\xff\xd9"


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _deep(picture: np.ndarray) -> bytes:
    """A grey PNG of 16 bits."""
    grey = picture[..., 0].astype(np.uint16)
    return _saved(Image.fromarray(grey * np.uint16(257)), "png")


def _transparent_palette(image: Image.Image) -> bytes:
    return _saved(image.quantize(16), "png", transparency=3)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _with_strays(jpeg: bytes) -> bytes:
    """With bytes between the segments before its data, a marker's beginning and stuffing among them."""
    start, first, *others, end = split(jpeg)
    assert others[-1][1:2] == b"\xda"
    return b"".join([start, first, *(b"stray\xff\0\xff" + part for part in others), end])


def _scan_bytes(jpeg: bytes) -> int:
    return len(split(jpeg)[-2])


def _other_bytes(count: int) -> bytes:
    return np.random.default_rng(5).integers(1, 255, count, np.uint8).tobytes()


def _of_version_9(jpeg: bytes) -> bytes:
    return jpeg.replace(b"JFIF\0\1", b"JFIF\0\x09", 1)


@functools.cache
def sound_images() -> dict[str, bytes]:
    """Images of one size that Pillow reads, by what they are called in the table."""
    picture = make_picture(HEIGHT, WIDTH, seed=8)
    image = Image.fromarray(picture)
    ordinary = make_jpeg(picture).tobytes()
    cmyk = _saved(image.convert("CMYK"), "jpeg", quality=95)
    adobe = cmyk.index(b"Adobe") + 11
    moving = [Image.fromarray(make_picture(HEIGHT, WIDTH, seed=seed)) for seed in (8, 9)]
    found = {
        **{f"JPEG {kind}": make_jpeg(picture, kind).tobytes() for kind in SUBSAMPLING},
        "JPEG, grey": make_jpeg(picture, "grey").tobytes(),
        "JPEG with restarts": make_jpeg(picture, interval=3).tobytes(),
        "JPEG, progressive": make_jpeg(picture, progressive=True).tobytes(),
        "JPEG, RGB": _saved(image, "jpeg", quality=90, keep_rgb=True),
        "JPEG, CMYK": cmyk,
        "JPEG, YCCK": cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :],
        "JPEG of an unknown version of JFIF": _of_version_9(ordinary),
        "JPEG and other bytes behind": ordinary + b"something else" * 9,
        "two JPEGs in one file": ordinary + make_jpeg(make_picture(24, 24)).tobytes(),
        "JPEG with 600 beginnings of scans behind": ordinary + b"\xff\xda" * 600,
        "JPEG with 600 beginnings of scans in a preview": ordinary[:2]
        + b"\xff\xe2\x04\xb2"
        + b"\xff\xda" * 600
        + ordinary[2:],
        "JPEG with bytes between its segments": _with_strays(ordinary),
        "JPEG with bytes too many before its end": ordinary[:-2] + b"\x12\x34\x56" + _END,
        "JPEG with up to an eighth too many": ordinary[:-2] + _other_bytes(_scan_bytes(ordinary) // 8) + _END,
        "JPEG with much padding before its end": ordinary[:-2] + bytes(3000) + b"\xff\0" * 500 + b"\xff" * 9 + _END,
        "JPEG, turned by EXIF": _saved(image, "jpeg", quality=92, exif=_exif(3)),
        "PNG, turned by EXIF": _saved(image, "png", exif=_exif(3)),
        "TIFF, turned": _saved(image, "tiff", exif=_exif(3)),
        "PNG": _saved(image, "png"),
        "PNG, grey": _saved(image.convert("L"), "png"),
        "PNG, grey and alpha": _saved(image.convert("LA"), "png"),
        "PNG, RGB and alpha": _saved(image.convert("RGBA"), "png"),
        "PNG, 16 bits": _deep(picture),
        "PNG, 1 bit": _saved(image.convert("1"), "png"),
        "PNG, palette": _saved(image.quantize(16), "png"),
        "PNG, palette with a transparent colour": _transparent_palette(image),
        "GIF that moves": _saved(moving[0], "gif", save_all=True, append_images=moving[1:]),
        "BMP": _saved(image, "bmp"),
        "TIFF": _saved(image, "tiff"),
        "WebP": _saved(image, "webp", quality=90),
    }
    arithmetic = arithmetic_jpeg(picture)
    return found if arithmetic is None else {**found, "JPEG, arithmetic codes": arithmetic}


@functools.cache
def damaged_images() -> dict[str, list[bytes]]:
    """Images that must be refused, by what they are called in the table."""
    picture = make_picture(HEIGHT, WIDTH, seed=8)
    jpeg, progressive = make_jpeg(picture).tobytes(), make_jpeg(picture, progressive=True).tobytes()
    unusual = [make_jpeg(picture, "4:1:1").tobytes(), _saved(Image.fromarray(picture).convert("CMYK"), "jpeg")]
    png, start = _saved(Image.fromarray(picture), "png"), sum(len(part) for part in split(jpeg)[:-2]) + 14
    hole = start + (len(jpeg) - start) // 2
    return {
        "JPEG, cut": [
            data[: len(data) * part // 100] for data in (jpeg, progressive, *unusual) for part in range(1, 100)
        ],
        "JPEG, cut, with an end": [
            data[: len(data) * part // 100] + _END for data in (jpeg, *unusual) for part in range(1, 97)
        ],
        "JPEG of an unknown version of JFIF, cut": [_of_version_9(jpeg)[: len(jpeg) * 2 // 3] + _END],
        "JPEG without its end": [jpeg[:-2], progressive[:-2]],
        "JPEG with a hole of zeros": [jpeg[:hole] + bytes(len(jpeg) - hole - 2) + _END],
        "JPEG with more than an eighth too many": [
            jpeg[:-2] + _other_bytes(_scan_bytes(jpeg) // part) + _END for part in (1, 2, 4, 6)
        ],
        "JPEG with bytes between its segments, cut": [
            _with_strays(jpeg)[: len(jpeg) * part // 100] + _END for part in range(40, 97, 8)
        ],
        "JPEG, progressive, with bytes too many between its scans": [_left_over_between_scans(progressive)],
        "JPEG of other bytes": [b"\xff\xd8\xff" + bytes(range(256))],
        "PNG, cut": [png[: len(png) * part // 100] for part in range(1, 99)],
        "PNG, changed": [png[: len(png) // 2] + b"\0\xff\0" + png[len(png) // 2 + 3 :]],
        "nothing": [b""],
        "text": [b"<html>404</html>"],
        "JPEG bomb": [jpeg_bomb(65500, 65500), jpeg_bomb(13000, 13000, progressive=True), jpeg_bomb(13000, 13000)],
        "JPEG of 1,000 scans": [scan_bomb(1000)],
        "PNG bomb": [png_bomb(65500, 65500)],
    }


def _left_over_between_scans(progressive: bytes) -> bytes:
    parts = split(progressive)
    first = next(number for number, part in enumerate(parts) if part[1:2] == b"\xda")
    return b"".join([*parts[: first + 1], _other_bytes(40), *parts[first + 1 :]])


def jpeg_bomb(height: int, width: int, progressive: bool = False) -> bytes:
    """A small JPEG whose header says that it is a large one."""
    parts = split(make_jpeg(make_picture(64, 64), progressive=progressive).tobytes())
    frame = next(part for part in parts if part[1:2] in (b"\xc0", b"\xc2"))
    frame[5:9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"".join(parts)


def scan_bomb(scans: int, side: int = 2000) -> bytes:
    """A progressive JPEG that goes over its picture again and again, each time with a handful of bytes."""
    parts = split(make_jpeg(np.full((side, side, 3), 90, np.uint8), progressive=True).tobytes())
    places = [number for number, part in enumerate(parts) if part[1:2] == b"\xda"]
    # A scan that brings nothing new: a coefficient's next bit, of which there are none.
    again = parts[places[-1]]
    return b"".join([*parts[: places[-1]], *[again] * scans, *parts[places[-1] :]])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_bomb(height: int, width: int) -> bytes:
    """A PNG of zeros, of which only a beginning is there."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    data = zlib.compress(bytes(1 << 22), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
