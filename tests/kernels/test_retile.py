"""Lossless changes of restart intervals and Huffman codes: the same coefficients, whatever the JPEG."""

import heapq
import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from ffx.kernels.huffman_codes import LONGEST, best_code, decoding_table, encoding_table
from ffx.kernels.retile import retile
from ffx.kernels.tiles import tile_layout
from tests.kernels.guarded import Guarded
from tests.kernels.jpegs import KINDS, UNIT_WIDTH, find_segment, make_jpeg, markers


def decoded(jpeg):
    """The planes as Pillow reads them, YCbCr or grey, without conversion of colours."""
    image = Image.open(io.BytesIO(jpeg.tobytes()))
    if image.mode == "RGB":
        image.draft("YCbCr", image.size)
    return np.asarray(image)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_same_for_any_interval_before_and_after(kind, generator, make_picture):
    for number in range(20):
        height, width = (int(side) for side in generator.integers(1, 150, 2))
        picture = make_picture(height, width, seed=number)
        if number % 2:
            picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        before, after = int(generator.integers(0, 9)), int(generator.integers(1, 12))
        jpeg = make_jpeg(picture, kind, before, number % 3 == 0, quality=(5, 50, 90, 100)[number % 4])
        result = retile(jpeg, after)
        assert result.size > 0
        np.testing.assert_array_equal(decoded(result), decoded(jpeg))
        layout = tile_layout(result.ctypes.data, result.size)
        assert layout[1] == after and layout[2:] == tile_layout(jpeg.ctypes.data, jpeg.size)[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_are_those_of_opencv_s_encoder_for_the_same_interval(kind, make_picture):
    """A second change back to one run gives the bytes that the plain JPEG gives: nothing was lost on the way."""
    jpeg = make_jpeg(make_picture(75, 5 * UNIT_WIDTH[kind]), kind)
    theirs = make_jpeg(make_picture(75, 5 * UNIT_WIDTH[kind]), kind, 5, optimised=True)
    ours = retile(jpeg, 5)
    np.testing.assert_array_equal(retile(theirs, 7), retile(jpeg, 7))
    np.testing.assert_array_equal(retile(ours, 65535), retile(jpeg, 65535))
    # OpenCV breaks ties of equal amounts in another way; a byte of FF takes a second one.
    assert ours.size <= 1.005 * theirs.size


def test_result_is_the_same_each_time_and_does_not_change_again(make_picture):
    jpeg = make_jpeg(make_picture(120, 160))
    first = retile(jpeg, 2)
    np.testing.assert_array_equal(retile(jpeg.copy(), 2), first)
    np.testing.assert_array_equal(retile(first, 2), first)


def test_other_segments_are_kept_and_bytes_behind_the_end_are_not(make_picture):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(make_picture(60, 80)).save(stream, "JPEG", exif=exif, comment=b"a remark", dpi=(72, 72))
    result = retile(np.frombuffer(stream.getvalue() + b"junk", np.uint8), 1)
    image = Image.open(io.BytesIO(result.tobytes()))
    assert image.getexif()[0x010E] == "a description" and image.info["comment"] == b"a remark"
    assert image.info["dpi"] == (72, 72) and result.tobytes().endswith(b"\xff\xd9")


def test_flat_pictures_with_a_single_symbol_in_a_table():
    for value in (0, 128, 255):
        jpeg = make_jpeg(np.full((40, 48, 3), value, np.uint8))
        np.testing.assert_array_equal(decoded(retile(jpeg, 1)), decoded(jpeg))


def test_jpegs_of_other_kinds_are_declined(make_picture):
    picture = make_picture(40, 48)
    sound = make_jpeg(picture)
    stream = io.BytesIO()
    Image.fromarray(picture).convert("CMYK").save(stream, "JPEG")
    scan = find_segment(sound, 0xDA)
    others = [
        make_jpeg(picture, progressive=True),
        np.frombuffer(stream.getvalue(), np.uint8),
        np.concatenate([sound[: scan + 3], np.array([8, 1, 1, 0, 0, 63, 0], np.uint8), sound[scan + 14 :]]),
        np.zeros(100, np.uint8),
        np.empty(0, np.uint8),
    ]
    for jpeg in others:
        assert retile(jpeg, 2).size == 0
    for interval in (0, -1, 65536):
        assert retile(sound, interval).size == 0


def test_unsound_jpegs_are_declined(make_picture):
    jpeg = make_jpeg(make_picture(64, 80), interval=2)
    scan, places = tile_layout(jpeg.ctypes.data, jpeg.size)[0], markers(jpeg)
    for size in (scan, scan + 1, jpeg.size // 2, jpeg.size - 2, jpeg.size - 1):
        assert retile(jpeg[:size].copy(), 1).size == 0
    wrong = jpeg.copy()
    wrong[places[2] + 1] = 0xD7
    stray = np.concatenate([jpeg[:-2], np.zeros(9, np.uint8), jpeg[-2:]])
    missing = np.concatenate([jpeg[: places[0]], jpeg[places[0] + 2 :]])
    for unsound in (wrong, stray, missing):
        assert retile(unsound, 1).size == 0


def test_sizes_that_lie_cost_no_memory(make_picture):
    jpeg = make_jpeg(make_picture(16, 16))
    frame = find_segment(jpeg, 0xC0)
    jpeg[frame + 5 : frame + 9] = 255
    assert retile(jpeg, 1).size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_random_damage_is_declined_or_decodes_as_before(generator):
    sound = [make_jpeg(generator.integers(0, 256, (40, 50, 3), np.uint8), kind, 2) for kind in KINDS]
    guarded = Guarded(max(jpeg.size for jpeg in sound))
    taken = 0
    for number in range(1200):
        jpeg = sound[number % len(sound)].copy()
        scan = tile_layout(jpeg.ctypes.data, jpeg.size)[0]
        places = generator.integers(0, scan if number % 3 else jpeg.size, int(generator.integers(1, 4)))
        jpeg[places] = generator.integers(0, 256, places.size)
        if number % 5 == 0:
            jpeg = jpeg[: int(generator.integers(0, jpeg.size + 1))]
        jpeg = guarded.place(jpeg, at_end=number % 4 > 0)
        result = retile(jpeg, int(generator.integers(1, 9)))
        if result.size == 0:
            continue
        taken += 1
        before, after = (cv2.imdecode(data, cv2.IMREAD_COLOR) for data in (jpeg, result))
        # What only a table that nobody uses made unreadable may become readable.
        if before is not None:
            assert after is not None
            np.testing.assert_array_equal(after, before)
    assert taken > 100


# --- Codes ---


def best_length(amounts):
    """Bits of a Huffman code without a limit, by the textbook: for comparison."""
    heap = sorted([*(int(amount) for amount in amounts if amount), 0])
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@pytest.mark.parametrize("used", [1, 2, 3, 17, 162, 256])
def test_best_code_is_as_short_as_huffman_s_and_decodes(used, generator):
    for spread in (1.0, 1.2):
        amounts = np.zeros(256, np.int64)
        amounts[generator.permutation(256)[:used]] = 1000 * spread ** -np.arange(used, dtype=float) + 1
        counts, symbols = best_code(amounts)
        assert counts.sum() == used and set(symbols.tolist()) == set(np.flatnonzero(amounts).tolist())
        codes = np.zeros(256, np.int64)
        encoding_table(counts, symbols, codes)
        lengths = codes & 255
        # The dummy symbol counts one where the textbook's counts nothing.
        assert best_length(amounts) <= (amounts * lengths).sum() <= best_length(amounts) + lengths.max() + 1
        # Room for the code of only ones is left.
        assert sum(2.0 ** -float(lengths[symbol]) for symbol in symbols) < 1
        look, bounds = np.zeros(1024, np.uint16), np.zeros((2, LONGEST + 2), np.int64)
        assert decoding_table(counts, symbols, look, bounds)
        for symbol in symbols:
            code, length = codes[symbol] >> 8, lengths[symbol]
            if length <= 10:
                assert look[code << (10 - length)] == length << 8 | symbol
            else:
                assert symbols[code + bounds[1, length]] == symbol and code < bounds[0, length]


def test_long_codes_are_held_to_sixteen_bits():
    amounts = np.zeros(256, np.int64)
    amounts[:40] = [2 ** min(index, 45) for index in range(40)]
    counts, symbols = best_code(amounts)
    assert counts.sum() == 40 and symbols[0] == 39 and counts[15] > 0
    assert sum(int(count) * 2.0 ** -(length + 1) for length, count in enumerate(counts)) < 1


def test_a_table_with_too_many_codes_is_refused():
    look, bounds = np.zeros(1024, np.uint16), np.zeros((2, LONGEST + 2), np.int64)
    symbols = np.arange(20, dtype=np.uint8)
    for first in ([3, 0], [2, 1], [1, 3], [0, 0, 21]):
        counts = np.array(first + [0] * (16 - len(first)), np.uint8)
        assert not decoding_table(counts, symbols, look, bounds)
