"""ffx's own decoder of baseline JPEGs beside libturbojpeg and Pillow: the same pixels, or a refusal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffx.kernels.baseline import decode_baseline
from ffx.kernels.jpeg import decode_whole, release_decoder
from ffx.kernels.memory import THREAD_WORDS
from ffx.kernels.step import BAD_JPEG, NO_MEMORY, OK
from tests.pictures import make_picture

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "grey": None}
GUARD = 64


def encode(picture, kind="4:2:0", **options):
    stream = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "grey":
        image.convert("L").save(stream, "JPEG", **options)
    else:
        image.save(stream, "JPEG", subsampling=KINDS[kind], **options)
    return stream.getvalue()


def decode(data, height, width, thread, decoder=decode_baseline):
    """Status and pixels; nothing around the pixels may be touched."""
    source = np.frombuffer(data, np.uint8)
    memory = np.full(3 * height * width + 2 * GUARD, 77, np.uint8)
    target = memory[GUARD:].ctypes.data
    status = decoder(thread, source.ctypes.data, source.size, height, width, target, 3 * width)
    assert (memory[:GUARD] == 77).all() and (memory[-GUARD:] == 77).all()
    return status, memory[GUARD:-GUARD].reshape(height, width, 3)


def check(data, height, width, thread):
    status, pixels = decode(data, height, width, thread)
    assert status == OK
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    library, others = decode(data, height, width, thread, decode_whole)
    assert library == OK
    np.testing.assert_array_equal(pixels, others)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 100}, {"quality": 20}, {"optimize": True}], ids=str)
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (7, 9), (8, 200), (130, 5), (33, 47)])
def test_pixels_are_the_library_s_and_pillow_s(kind, options, size, thread):
    check(encode(make_picture(*size), kind, **options), *size, thread)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [100, 75, 1])
def test_noise_and_extremes(kind, quality, thread, generator):
    noise = generator.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for picture in (noise, np.where(noise > 127, np.uint8(255), np.uint8(0)), np.zeros_like(noise)):
        check(encode(picture, kind, quality=quality), 50, 70, thread)


@pytest.mark.slow
def test_many_sizes_and_qualities(thread, generator):
    for _ in range(1500):
        height, width = (int(side) for side in generator.integers(5, 130, 2))
        picture = make_picture(height, width, int(generator.integers(0, 1000)))
        if generator.random() < 0.3:
            picture = generator.integers(0, 256, picture.shape, dtype=np.uint8)
        kind = list(KINDS)[int(generator.integers(0, len(KINDS)))]
        check(encode(picture, kind, quality=int(generator.integers(1, 101))), height, width, thread)


def encode_as(picture, mode):
    stream = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, "JPEG")
    return stream.getvalue()


PICTURE = make_picture(40, 56)
ORDINARY = encode(PICTURE)
REFUSED = {
    "progressive": encode(PICTURE, progressive=True),
    "restarts": encode(PICTURE, restart_marker_blocks=2),
    "CMYK": encode_as(PICTURE, "CMYK"),
    "too narrow to upsample smoothly": None,
    "cut": ORDINARY[:-200],
    "without its end": ORDINARY[:-2],
    "bytes before the end": ORDINARY[:-2] + b"\x00\x01" + ORDINARY[-2:],
    "another picture's marker": ORDINARY.replace(b"\xff\xda", b"\xff\x01", 1),
    "JFIF of version 2": ORDINARY.replace(b"JFIF\0\1", b"JFIF\0\2", 1),
    "nothing": b"",
    "no JPEG": b"\x89PNG" + bytes(100),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_ordinary_is_refused(name, thread):
    if name.startswith("too narrow"):
        assert decode(encode(make_picture(40, 4)), 40, 4, thread)[0] == BAD_JPEG
    else:
        assert decode(REFUSED[name], 40, 56, thread)[0] == BAD_JPEG


def test_a_wrong_size_is_refused(thread):
    assert decode(ORDINARY, 40, 55, thread)[0] == BAD_JPEG
    assert decode(ORDINARY, 56, 40, thread)[0] == BAD_JPEG


def test_without_scratch_memory():
    assert decode(ORDINARY, 40, 56, 0)[0] == NO_MEMORY


def test_coded_data_can_be_looked_at_without_pixels(thread):
    source = np.frombuffer(ORDINARY, np.uint8)
    assert decode_baseline(thread, source.ctypes.data, source.size, 40, 56, 0, 0) == OK
    assert decode_baseline(thread, source.ctypes.data, source.size - 50, 40, 56, 0, 0) == BAD_JPEG


def damaged(generator, data):
    """The data with some bytes changed, left out or put in."""
    data = bytearray(data)
    for _ in range(int(generator.integers(1, 4))):
        place, how = int(generator.integers(2, len(data))), generator.random()
        if how < 0.7:
            data[place] = int(generator.integers(0, 256))
        elif how < 0.85:
            del data[place : place + int(generator.integers(1, 9))]
        else:
            data[place:place] = generator.integers(0, 256, int(generator.integers(1, 9)), dtype=np.uint8).tobytes()
    return bytes(data)


def check_damaged(generator, rounds, thread):
    """Whatever it takes, the library takes without a warning, and makes the same of it."""
    taken = 0
    for number in range(rounds):
        kind = list(KINDS)[number % len(KINDS)]
        data = damaged(generator, encode(make_picture(24, 40, number % 7), kind, quality=60))
        status, pixels = decode(data, 24, 40, thread)
        if status == OK:
            taken += 1
            # A decoder of its own: after some errors the library's refuse whatever follows.
            words = np.zeros(THREAD_WORDS, np.int64)
            library, expected = decode(data, 24, 40, words.ctypes.data, decode_whole)
            release_decoder(words)
            assert library == OK
            np.testing.assert_array_equal(pixels, expected)
    return taken


def test_damage_is_refused_or_decoded_as_the_library_does(generator, thread):
    assert check_damaged(generator, 400, thread) > 0


@pytest.mark.slow
def test_much_damage_is_refused_or_decoded_as_the_library_does(generator, thread):
    assert check_damaged(generator, 30000, thread) > 0


@pytest.mark.slow
def test_portable_code_gives_the_same_pixels():
    code = (
        "import numpy as np; from tests.kernels.test_baseline import check, encode, KINDS, make_picture; "
        "from ffx.kernels.memory import THREAD_WORDS; words = np.zeros(THREAD_WORDS, np.int64)\n"
        "for kind in KINDS:\n"
        "    for quality in (10, 90, 100):\n"
        "        check(encode(make_picture(61, 83), kind, quality=quality), 61, 83, words.ctypes.data)\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT)
