"""JPEGs of all kinds, and what is done to them: segments, headers of frames and scans, codes, and bare bytes."""

import ctypes
import io
import os
import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from ffx.kernels.turbojpeg import library
from tests.kernels.jpegs import make_jpeg
from tests.pictures import make_picture

__all__ = ["arithmetic_jpeg", "mutate_jpeg", "sound_jpegs"]

HEIGHT, WIDTH = 37, 51
_SOF, _DHT, _DQT, _SOS, _DRI, _EOI = 0xC0, 0xC4, 0xDB, 0xDA, 0xDD, 0xD9
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCF)


def arithmetic_jpeg(picture: np.ndarray, progressive: bool = False) -> bytes | None:
    """An RGB picture with arithmetic coding, by libturbojpeg; `None` where it cannot."""
    turbojpeg, height, width = library(), *picture.shape[:2]
    pointer, number = ctypes.c_void_p, ctypes.c_int
    if turbojpeg is None or not hasattr(turbojpeg, "tjCompress2"):
        return None
    turbojpeg.tjInitCompress.restype, turbojpeg.tjInitCompress.argtypes = pointer, []
    turbojpeg.tjCompress2.argtypes = [pointer, pointer, *[number] * 4, pointer, pointer, *[number] * 3]
    turbojpeg.tjDestroy.argtypes, turbojpeg.tjFree.argtypes = [pointer], [pointer]
    handle, target, size = turbojpeg.tjInitCompress(), pointer(), ctypes.c_ulong()
    # Version 2 of the library looks at the environment, version 3 is asked.
    os.environ["TJ_ARITHMETIC"] = "1"
    try:
        if hasattr(turbojpeg, "tj3Set"):
            turbojpeg.tj3Set.argtypes = [pointer, number, number]
            turbojpeg.tj3Set(handle, 14, 1)  # TJPARAM_ARITHMETIC
        arguments = (picture.ctypes.data, width, 3 * width, height, 0, ctypes.addressof(target), ctypes.addressof(size))
        flags = 16384 if progressive else 0
        if turbojpeg.tjCompress2(handle, *arguments, 2, 90, flags) != 0:
            return None
        data = ctypes.string_at(target.value, size.value)
        return data if b"\xff\xca" in data or b"\xff\xc9" in data else None
    finally:
        del os.environ["TJ_ARITHMETIC"]
        turbojpeg.tjFree(target)
        turbojpeg.tjDestroy(handle)


def _by_pillow(picture: np.ndarray, mode: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, "jpeg", **options)
    return stream.getvalue()


def sound_jpegs() -> dict[str, bytes]:
    """A small picture as JPEGs of all kinds."""
    picture = make_picture(HEIGHT, WIDTH, seed=3)
    found = {}
    for kind in ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "grey"):
        for progressive in (False, True):
            for interval in (0, 3):
                name = f"{kind}{' progressive' * progressive}{' restarts' * bool(interval)}"
                found[name] = make_jpeg(picture, kind, interval, progressive=progressive).tobytes()
    found["CMYK"] = _by_pillow(picture, "CMYK")
    found["CMYK progressive"] = _by_pillow(picture, "CMYK", progressive=True)
    found["RGB"] = _by_pillow(picture, "RGB", keep_rgb=True)
    found["optimised"] = _by_pillow(picture, "RGB", optimize=True, quality=30)
    for progressive in (False, True):
        data = arithmetic_jpeg(picture, progressive)
        if data is not None:
            found[f"arithmetic{' progressive' * progressive}"] = data
    return found


def split(jpeg: bytes) -> list[bytearray]:
    """Segments, each from its marker on, coded data with their scan's header: all of them together are the JPEG."""
    parts, place = [bytearray(jpeg[:2])], 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        stop = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] == _SOS:
            while stop + 1 < len(jpeg) and (jpeg[stop] != 0xFF or jpeg[stop + 1] in (0, *range(0xD0, 0xD8))):
                stop += 1
        parts.append(bytearray(jpeg[place:stop]))
        place = stop
    parts.append(bytearray(jpeg[place:]))
    return parts


Parts = list[bytearray]


def _with_marker(parts: Parts, *markers: int) -> Parts:
    return [part for part in parts if len(part) > 4 and part[1] in markers] or [parts[-1]]


def _set(part: bytearray, place: int, value: int) -> None:
    if place < len(part):
        part[place] = value & 255


def _any_byte(generator: random.Random, now: int) -> int:
    return generator.choice([0, 1, 255, 127, 128, now + 1, now - 1, now ^ (1 << generator.randrange(8)), now << 4])


def _segments(parts: Parts, generator: random.Random) -> None:
    """Segments left out, twice, or in another order."""
    first, second = generator.randrange(len(parts)), generator.randrange(len(parts))
    kind = generator.randrange(4)
    if kind == 0:
        parts.pop(first)
    elif kind == 1:
        parts.insert(first, bytearray(parts[second]))
    elif kind == 2:
        parts[first], parts[second] = parts[second], parts[first]
    else:
        parts[first:first] = [bytearray(part) for part in parts[second:]] * generator.choice([1, 1, 2, 30])


def _segment_length(parts: Parts, generator: random.Random) -> None:
    part = generator.choice(parts)
    _set(part, generator.choice([2, 3, 3]), _any_byte(generator, part[3] if len(part) > 3 else 0))


def _frame(parts: Parts, generator: random.Random) -> None:
    part = generator.choice(_with_marker(parts, *_FRAMES))
    place = generator.randrange(1, len(part)) if len(part) > 1 else 0
    if place == 1:
        _set(part, 1, generator.choice(_FRAMES))
    elif place < len(part):
        sampling = (0x11, 0x21, 0x12, 0x22, 0x41, 0x14, 0x44, 0x31, 0x00, 0x51, 0xFF)
        values = sampling if place >= 11 and (place - 11) % 3 == 0 else (_any_byte(generator, part[place]),)
        _set(part, place, generator.choice(values))


def _size(parts: Parts, generator: random.Random) -> None:
    """Another height or width of the frame."""
    part = generator.choice(_with_marker(parts, *_FRAMES))
    side = generator.choice([0, 1, 7, 8, 9, 15, 16, 17, 33, HEIGHT + 1, WIDTH - 1, 200, 65535])
    place = generator.choice([5, 7])
    _set(part, place, side >> 8)
    _set(part, place + 1, side)


def _tables(parts: Parts, generator: random.Random) -> None:
    part = generator.choice(_with_marker(parts, _DHT, _DQT, 0xCC))
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(4, max(5, min(len(part), generator.choice([5, 21, 400]))))
        _set(part, place, _any_byte(generator, part[place] if place < len(part) else 0))


def _scan(parts: Parts, generator: random.Random) -> None:
    """The header of a scan: components, tables, spectral selection, bits."""
    part = generator.choice(_with_marker(parts, _SOS))
    header = 2 + int.from_bytes(part[2:4], "big") if len(part) > 4 else 4
    place = generator.choice([4, *range(5, max(header, 6)), header - 3, header - 2, header - 1])
    values = (0, 1, 2, 3, 4, 5, 10, 63, 64, 0x10, 0x11, 0x21, 0xDD, generator.randrange(256))
    _set(part, place, generator.choice(values))


def _codes(parts: Parts, generator: random.Random) -> None:
    """Coded data: bits, markers, zeros, ones, parts lost or twice."""
    part = generator.choice(_with_marker(parts, _SOS))
    first = min(len(part), 14)
    place = generator.randrange(first, len(part) + 1)
    kind, count = generator.randrange(7), generator.randint(1, 30)
    if kind == 0 and place < len(part):
        part[place] ^= 1 << generator.randrange(8)
    elif kind == 1:
        part[place : place + 2] = bytes((255, generator.choice([0, 1, *range(0xC0, 0xFF)])))
    elif kind == 2:
        part[place : place + count] = bytes(count)
    elif kind == 3:
        part[place : place + 2 * count] = b"\xff\0" * count
    elif kind == 4:
        del part[place : place + count]
    elif kind == 5:
        part[place:place] = part[first : first + count]
    else:
        del part[place:]


def _restarts(parts: Parts, generator: random.Random) -> None:
    interval = generator.choice([0, 1, 2, 3, 7, 100, 65535])
    parts.insert(generator.randrange(1, len(parts)), bytearray(b"\xff\xdd\0\4" + interval.to_bytes(2, "big")))


def _colours(parts: Parts, generator: random.Random) -> None:
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([generator.choice([0, 1, 2, 255])])
    jfif = b"\xff\xe0\0\x10JFIF\0" + bytes([generator.choice([1, 2]), 1, 0, 0, 1, 0, 1, 0, 0])
    parts.insert(1, bytearray(generator.choice([adobe, jfif])))


def _raw(parts: Parts, generator: random.Random) -> None:
    """Bytes anywhere."""
    part = generator.choice(parts)
    for _ in range(generator.randint(1, 4)):
        if part:
            place = generator.randrange(len(part))
            part[place] = _any_byte(generator, part[place]) & 255


def _cut(parts: Parts, generator: random.Random) -> None:
    whole = b"".join(parts)
    parts[:] = [bytearray(whole[: generator.randrange(len(whole) + 1)])]


def _alien(parts: Parts, generator: random.Random) -> None:
    """A segment of another JPEG."""
    other = split(generator.choice(_ALL))
    parts.insert(generator.randrange(len(parts) + 1), generator.choice(other))


_MUTATIONS: tuple[tuple[Callable[[Parts, random.Random], None], int], ...] = (
    (_segments, 3),
    (_segment_length, 1),
    (_frame, 4),
    (_size, 2),
    (_tables, 4),
    (_scan, 4),
    (_codes, 6),
    (_restarts, 2),
    (_colours, 1),
    (_raw, 3),
    (_cut, 1),
    (_alien, 2),
)
_CALLS, _WEIGHTS = zip(*_MUTATIONS)
_ALL: list[bytes] = []


def mutate_jpeg(jpeg: bytes, generator: random.Random, others: list[bytes]) -> bytes:
    """One to four mutations; segments may come from `others`."""
    _ALL[:] = others
    parts = split(jpeg)
    for mutation in generator.choices(_CALLS, _WEIGHTS, k=generator.choice([1, 1, 1, 2, 2, 3, 4])):
        if len(parts) > 1:
            mutation(parts, generator)
    return b"".join(parts)
