"""JPEGs made in one pass: the coefficients of OpenCV's encoder (libjpeg-turbo), whatever the picture."""

import hashlib
import sys

import cv2
import numpy as np
import pytest

from ffx.kernels.forward_dct import divisors
from ffx.kernels.jpeg_encode import encode_jpeg, zigzag_order
from ffx.kernels.retile import retile
from tests.kernels.guarded import Guarded
from tests.kernels.jpegs import find_segment, make_jpeg
from tests.kernels.portable import by_portable_code

# T.81, figure A.6, the first two diagonals and the last.
BEGIN, END = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24], [61, 54, 47, 55, 62, 63]


def header_of(jpeg):
    """`(bytes before the coded data, divisors)` of a JPEG by OpenCV."""
    tables = []
    position = 2
    while jpeg[position + 1] != 0xDA:
        if jpeg[position + 1] == 0xDB:
            natural = np.empty(64, np.uint8)
            natural[zigzag_order()[0]] = jpeg[position + 5 : position + 69]
            tables.append(divisors(natural))
        position += 2 + (int(jpeg[position + 2]) << 8 | int(jpeg[position + 3]))
    assert len(tables) == 2
    return find_segment(jpeg, 0xDA) + 14, np.stack(tables)


def encode(picture, quality, interval, thread):
    """By ffx, with the header that OpenCV gives a black picture of this size."""
    header = make_jpeg(np.zeros_like(picture), quality=quality)
    scan, table = header_of(header)
    return encode_jpeg(header[:scan].copy(), scan, picture, table, zigzag_order(), interval, thread)


def pictures(generator):
    """Of every size up to three MCUs, and of some larger ones: noise, smooth, only black and white, flat."""
    sizes = [(height, width) for height in range(1, 50, 3) for width in range(1, 50, 5)]
    sizes += [tuple(side) for side in generator.integers(50, 300, (20, 2))]
    for number, (height, width) in enumerate(sizes):
        picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        if number % 4 == 1:
            picture = np.ascontiguousarray(cv2.GaussianBlur(picture, (0, 0), 4).reshape(picture.shape))
        elif number % 4 == 2:
            picture = np.where(picture > 127, 255, 0).astype(np.uint8)
        elif number % 4 == 3:
            picture[:] = picture[0, 0]
        yield number, picture


def test_zigzag_order_is_the_standard_s():
    natural, masks = zigzag_order()
    assert natural[: len(BEGIN)].tolist() == BEGIN and natural[-len(END) :].tolist() == END
    assert sorted(natural.tolist()) == list(range(64))
    # Each coefficient has a bit of its own.
    bits = [int(masks[byte, 1 << column]) for byte in range(8) for column in range(8)]
    assert sorted(bits) == [1 << place for place in range(64)]


def test_bytes_are_those_of_opencv_s_jpeg_with_restarts_and_codes_of_ours(generator, thread):
    for number, picture in pictures(generator):
        quality, interval = int(generator.integers(1, 101)), (1, 2, 3, 5, 200)[number % 5]
        expected = retile(make_jpeg(picture, quality=quality), interval)
        np.testing.assert_array_equal(encode(picture, quality, interval, thread), expected)


def test_everybody_decodes_the_pixels_of_opencv_s_jpeg(make_picture, thread):
    picture = make_picture(123, 209)
    ours, theirs = encode(picture, 90, 2, thread), make_jpeg(picture)
    np.testing.assert_array_equal(cv2.imdecode(ours, 1), cv2.imdecode(theirs, 1))


def test_without_memory_nothing_is_made(make_picture):
    assert encode(make_picture(20, 20), 90, 1, 0).size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_pixels_beside_forbidden_pages(generator, thread):
    guarded = Guarded(3 * 70 * 70)
    for height, width in ((1, 1), (2, 31), (15, 33), (16, 32), (17, 64), (70, 70)):
        picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        expected = encode(picture, 90, 2, thread)
        for at_end in (False, True):
            placed = guarded.place(picture.reshape(-1), at_end).reshape(picture.shape)
            np.testing.assert_array_equal(encode(placed, 90, 2, thread), expected)


def digest(thread):
    """Of many JPEGs."""
    generator, total = np.random.default_rng(3), hashlib.sha256()
    for number, picture in pictures(generator):
        if number % 7 == 0:
            total.update(encode(picture, 80, 2, thread).tobytes())
    return total.hexdigest()


@pytest.mark.long("portable code")
def test_portable_code_gives_the_same_bytes(thread):
    assert by_portable_code(digest) == digest(thread)
