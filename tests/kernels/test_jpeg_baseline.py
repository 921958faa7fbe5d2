"""The decoder of crops of ordinary JPEGs beside libjpeg's full decode, bit for bit; what it declines; damaged data."""

import ctypes
import functools
import hashlib
import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from ffx.kernels.huffman_tables import TABLE_BYTES, make_table
from ffx.kernels.jpeg import decode_region, decode_whole, release_decoder
from ffx.kernels.jpeg_baseline import DECLINED, decode_baseline_region
from ffx.kernels.jpeg_header import FRAME_WORDS, RESTART_INTERVAL, SCAN_START, read_frame
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.kernels.step import BAD_JPEG, OK
from tests.kernels.guarded import Guarded
from tests.kernels.jpegs import decode_by_library, find_segment, make_jpeg, random_crop
from tests.kernels.portable import by_portable_code
from tests.pictures import make_picture

KINDS = ["4:4:4", "4:2:2", "4:2:0", "grey"]


def baseline(data, height, width, crop, thread, fast=0):
    """The crop; None where it is declined."""
    status, address, stride, top, left, rows, columns = decode_baseline_region(
        thread, data.ctypes.data, data.size, height, width, *crop, fast
    )
    if status != OK:
        assert status == DECLINED
        return None
    assert top == crop[0] and rows == crop[2] and crop[1] - 1 <= left <= crop[1]
    assert left + columns == crop[1] + crop[3] and stride == 3 * columns
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * (rows * stride)).from_address(address))
    return memory.reshape(rows, columns, 3)[:, crop[1] - left :].copy()


def made(generator, kind, height, width):
    """A picture: photograph-like, noise, noise without greys (the most extreme coefficients), smooth."""
    if kind == 0:
        return make_picture(height, width, seed=int(generator.integers(1000)))
    noise = generator.integers(0, 256, (height, width, 3), np.uint8)
    if kind == 1:
        return noise
    if kind == 2:
        return (noise >> 7) * np.uint8(255)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def assert_equals_full_decode(data, height, width, crop, thread, full=None, fast=0):
    full = decode_by_library(data, height, width, bool(fast)) if full is None else full
    found = baseline(data, height, width, crop, thread, fast)
    assert found is not None
    top, left, rows, columns = crop
    np.testing.assert_array_equal(found, full[top : top + rows, left : left + columns])


@pytest.mark.parametrize("fast", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_crops_equal_libjpeg_s_full_decode(kind, fast, generator, thread):
    for number in range(200):
        height, width = (int(side) for side in generator.integers(1, (40, 160)[number % 2], 2))
        if not fast:
            width = max(width, 5)
        row = (width + 15) // 16 if kind in ("4:2:0", "4:2:2") else (width + 7) // 8
        data = make_jpeg(
            made(generator, number % 4, height, width),
            kind,
            quality=int(generator.integers(10, 101)),
            # Restarts inside rows, at their ends, and at the end of every second.
            interval=(0, 1, 3, row, 2 * row)[number % 5],
            optimised=number % 3 % 2,
        )
        full = decode_by_library(data, height, width, bool(fast))
        for _ in range(10):
            assert_equals_full_decode(data, height, width, random_crop(generator, height, width), thread, full, fast)


@pytest.mark.parametrize("fast", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_offset_of_a_small_crop_equals_a_full_decode(kind, fast, generator, thread):
    data = make_jpeg(made(generator, 1, 37, 43), kind)
    full = decode_by_library(data, 37, 43, bool(fast))
    for top in range(36):
        for left in range(42):
            assert_equals_full_decode(data, 37, 43, (top, left, 2, 2), thread, full, fast)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_few_columns_and_rows_equal_a_full_decode(kind, generator, thread):
    for height in (1, 2, 3, 17):
        for width in range(1, 6):
            data = make_jpeg(made(generator, 1, height, width), kind)
            crop = random_crop(generator, height, width)
            assert_equals_full_decode(data, height, width, crop, thread, fast=1)
            # With smooth upsampling libjpeg treats so few columns in another way.
            if kind in ("4:2:0", "4:2:2") and width < 5:
                assert baseline(data, height, width, crop, thread) is None
            else:
                assert_equals_full_decode(data, height, width, crop, thread)


def test_fast_upsampling_decodes_no_mcus_around_the_crop(make_picture, thread):
    # Each row of MCUs begins with a restart; the one above the crop is nonsense.
    data = make_jpeg(make_picture(96, 64), interval=4)
    full = decode_by_library(data, 96, 64, fast=True)
    start = find_segment(data, 0xDA) + 14
    data[start + 8 : start + 40] = 0
    assert baseline(data, 96, 64, (16, 10, 50, 40), thread) is None
    np.testing.assert_array_equal(baseline(data, 96, 64, (16, 10, 50, 40), thread, fast=1), full[16:66, 10:50])
    assert baseline(data, 96, 64, (15, 10, 50, 40), thread, fast=1) is None


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_files_of_pillow_equal_a_full_decode(subsampling, quality, generator, thread):
    for optimise in (False, True):
        stream = io.BytesIO()
        picture = Image.fromarray(made(generator, 2, 61, 79))
        picture.save(stream, "jpeg", quality=quality, subsampling=subsampling, optimize=optimise)
        data = np.frombuffer(stream.getvalue(), np.uint8)
        for number in range(10):
            assert_equals_full_decode(data, 61, 79, random_crop(generator, 61, 79), thread, fast=number % 2)


def test_a_large_picture_equals_a_full_decode(thread):
    data = make_jpeg(make_picture(375, 500, seed=5))
    for crop in ((0, 0, 375, 500), (30, 77, 200, 300), (200, 301, 175, 199), (374, 499, 1, 1)):
        for fast in (0, 1):
            assert_equals_full_decode(data, 375, 500, crop, thread, fast=fast)


@pytest.mark.parametrize("fast", [0, 1])
def test_decode_region_and_decode_whole_take_this_way(fast, make_picture):
    words = np.zeros(THREAD_WORDS, np.int64)
    thread = words.ctypes.data
    data = make_jpeg(make_picture(100, 120))
    _, _, _, top, left, rows, columns = decode_region(
        thread, data.ctypes.data, data.size, 100, 120, 31, 41, 30, 40, fast
    )
    # libjpeg would begin at a unit of 16 columns.
    assert (top, left, rows, columns) == (31, 40, 30, 41)
    pixels = np.empty((100, 120, 3), np.uint8)
    assert decode_whole(thread, data.ctypes.data, data.size, 100, 120, pixels.ctypes.data, 360, fast) == OK
    np.testing.assert_array_equal(pixels, decode_by_library(data, 100, 120, bool(fast)))
    # No handle of the library was made.
    assert words[0] == 0
    release_thread(words)


def with_bytes(data, old, new):
    place = data.tobytes().find(old)
    assert place >= 0
    changed = data.copy()
    changed[place : place + len(new)] = np.frombuffer(new, np.uint8)
    return changed


def pillow(picture, mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, "jpeg", **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


UNUSUAL = {
    "progressive": lambda picture: make_jpeg(picture, progressive=1),
    "4:4:0": lambda picture: make_jpeg(picture, "4:4:0"),
    "4:1:1": lambda picture: make_jpeg(picture, "4:1:1"),
    "CMYK": lambda picture: pillow(picture, "CMYK"),
    "RGB": lambda picture: pillow(picture, keep_rgb=True),
    "arithmetic": lambda picture: with_bytes(make_jpeg(picture), b"\xff\xc0", b"\xff\xc9"),
    "lossless": lambda picture: with_bytes(make_jpeg(picture), b"\xff\xc0", b"\xff\xc3"),
    "12 bits": lambda picture: with_bytes(make_jpeg(picture), b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"),
    "16-bit quantisers": lambda picture: with_bytes(
        make_jpeg(picture), b"\xff\xdb\x00\x43\x00", b"\xff\xdb\x00\x43\x10"
    ),
    "several scans": lambda picture: with_bytes(
        make_jpeg(picture), b"\xff\xda\x00\x0c\x03\x01", b"\xff\xda\x00\x08\x01\x01"
    ),
    "successive bits": lambda picture: with_bytes(make_jpeg(picture), b"\x00\x3f\x00", b"\x00\x3f\x01"),
    "no Huffman table": lambda picture: with_bytes(make_jpeg(picture), b"\xff\xc4", b"\xff\xfe"),
    "no quantisers": lambda picture: with_bytes(make_jpeg(picture), b"\xff\xdb", b"\xff\xfe"),
    "other colours": lambda picture: with_bytes(
        with_bytes(make_jpeg(picture), b"JFIF", b"JFIX"), b"\x01\x22\x00", b"\x52\x22\x00"
    ),
    "other major version": lambda picture: with_bytes(make_jpeg(picture), b"JFIF\0\x01", b"JFIF\0\x02"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_the_unusual_is_declined(kind, make_picture, thread):
    data = UNUSUAL[kind](make_picture(48, 64))
    for fast in (0, 1):
        assert baseline(data, 48, 64, (5, 7, 20, 30), thread, fast) is None


def test_another_size_or_a_crop_outside_is_declined(make_picture, thread):
    data = make_jpeg(make_picture(48, 64))
    for size in ((47, 64), (48, 65), (64, 48), (0, 0)):
        assert baseline(data, *size, (0, 0, 1, 1), thread) is None
    for crop in ((-1, 0, 4, 4), (0, -1, 4, 4), (45, 0, 4, 4), (0, 61, 4, 4), (0, 0, 0, 4), (0, 0, 4, 0)):
        assert baseline(data, 48, 64, crop, thread) is None


@pytest.mark.parametrize("restarts", [0, 2])
def test_data_that_end_within_the_crop_are_declined(restarts, make_picture, thread):
    data = make_jpeg(make_picture(64, 64), interval=restarts)
    for size in range(data.size):
        assert baseline(data[:size].copy(), 64, 64, (20, 20, 44, 44), thread) is None


@pytest.mark.parametrize("restarts", [0, 5, 16, 1000])
def test_bytes_too_many_at_the_end_are_damage_as_for_libjpeg(restarts, make_picture, thread):
    # 16 MCUs: the last segment is as long as the others, or shorter.
    data = make_jpeg(make_picture(64, 64), interval=restarts)
    assert baseline(data, 64, 64, (0, 0, 64, 64), thread) is not None
    surplus = np.concatenate([data[:-2], np.arange(1, 41, dtype=np.uint8), data[-2:]])
    assert decode_by_library(surplus, 64, 64) is None
    pixels = np.empty((64, 64, 3), np.uint8)
    assert decode_whole(thread, surplus.ctypes.data, surplus.size, 64, 64, pixels.ctypes.data, 192) == BAD_JPEG
    assert baseline(surplus, 64, 64, (0, 0, 64, 64), thread) is None
    assert baseline(surplus, 64, 64, (40, 3, 24, 5), thread) is None


def test_restarts_out_of_order_are_declined_where_they_count(make_picture, thread):
    data = make_jpeg(make_picture(96, 64), interval=4)
    full = decode_by_library(data, 96, 64)
    wrong = with_bytes(data, b"\xff\xd2", b"\xff\xd4")
    assert decode_by_library(wrong, 96, 64) is None
    assert baseline(wrong, 96, 64, (60, 10, 10, 10), thread) is None
    np.testing.assert_array_equal(baseline(wrong, 96, 64, (0, 10, 30, 10), thread), full[:30, 10:20])


def test_rows_before_the_crop_are_jumped_over(make_picture, thread):
    data = make_jpeg(make_picture(96, 64), interval=4)
    full = decode_by_library(data, 96, 64)
    words = np.zeros(FRAME_WORDS, np.int64)
    assert read_frame(data.ctypes.data, data.size, 96, 64, words.ctypes.data)
    assert words[RESTART_INTERVAL] == 4
    # Nonsense in the first row of MCUs, which a crop below need not look at.
    start = int(words[SCAN_START]) - data.ctypes.data
    data[start + 8 : start + 40] = 0
    assert decode_by_library(data, 96, 64) is None
    np.testing.assert_array_equal(baseline(data, 96, 64, (40, 10, 50, 40), thread), full[40:90, 10:50])
    assert baseline(data, 96, 64, (10, 10, 50, 40), thread) is None


@pytest.mark.parametrize(
    ("counts", "sound"),
    [
        ([0, 1, 5] + [0] * 13, True),
        ([2] + [0] * 15, False),  # both codes of one bit: one of them has ones only
        ([0, 2, 6] + [0] * 13, False),  # more codes than three bits have
        ([0] * 15 + [255], True),
        ([255] + [0] * 15, False),
    ],
)
def test_tables_that_contradict_themselves_are_refused(counts, sound, make_picture, thread):
    table, source = np.zeros(TABLE_BYTES, np.uint8), np.array(counts + [0] * sum(counts), np.uint8)
    assert make_table(table.ctypes.data, source.ctypes.data, False) == sound
    # As a file's first table, whose twelve symbols stay behind.
    data = make_jpeg(make_picture(48, 64))
    place = data.tobytes().find(b"\xff\xc4") + 5
    data[place : place + 16] = counts
    assert baseline(data, 48, 64, (0, 0, 48, 64), thread) is None


def mutated(generator, sound):
    """Bytes changed, bits flipped, cut off, or moved."""
    data = sound.copy()
    kind = generator.integers(0, 5)
    # The header is short: half of the damage should meet it.
    most = data.size if generator.integers(0, 2) else min(data.size, 640)
    if kind == 0:
        places = generator.integers(0, most, int(generator.integers(1, 8)))
        data[places] = generator.integers(0, 256, places.size)
    elif kind == 1:
        data[generator.integers(0, most)] ^= 1 << int(generator.integers(0, 8))
    elif kind == 2:
        data = data[: int(generator.integers(0, data.size))].copy()
    elif kind == 3:
        place, count = int(generator.integers(0, most)), int(generator.integers(1, 20))
        data = np.concatenate([data[:place], data[place + count :]])
    else:
        place = int(generator.integers(0, most))
        data[place : place + 2] = (255, int(generator.integers(0, 256)))[: data[place : place + 2].size]
    return data


def fuzz(generator, thread, rounds, fast):
    """How many damaged files were decoded, and how many declined."""
    guarded = Guarded(30_000)
    height, width = 50, 70
    sounds = [
        make_jpeg(
            made(generator, number % 4, height, width),
            KINDS[number % 4],
            restarts,
            number % 2,
            (50, 90, 100)[number % 3],
        )
        for number in range(8)
        for restarts in (0, 0, 5)
    ]
    counts = [0, 0]
    for number in range(rounds):
        sound = sounds[number % len(sounds)]
        data = mutated(generator, sound)
        data = guarded.place(data, at_end=number % 8 != 0)
        crop = random_crop(generator, height, width)
        reads_all = number % 2 == 0
        if reads_all:
            crop = (crop[0], crop[1], height - crop[0], width - crop[1])
        found = baseline(data, height, width, crop, thread, fast)
        counts[found is None] += 1
        if found is None:
            continue
        full = decode_by_library(data, height, width, bool(fast))
        if full is None:
            # Only what was not looked at may be damaged.
            has_restarts = b"\xff\xdd" in data.tobytes()
            assert not reads_all or has_restarts, number
        else:
            top, left, rows, columns = crop
            np.testing.assert_array_equal(found, full[top : top + rows, left : left + columns], err_msg=str(number))
    return counts


@pytest.mark.skipif(os.name != "posix", reason="guard pages by mprotect")
@pytest.mark.parametrize(("fast", "rounds"), [(0, 8000), (1, 4000)])
def test_damage_is_judged_as_libjpeg_does_and_nothing_beyond_the_data_is_read(fast, rounds, generator, thread):
    decoded, declined = fuzz(generator, thread, rounds, fast)
    assert decoded > rounds // 20 and declined > rounds // 4


@functools.cache
def _samples():
    generator = np.random.default_rng(7)
    samples = []
    for number in range(24):
        height, width = 20 + 3 * number, 90 - 2 * number
        data = make_jpeg(
            made(generator, number % 4, height, width), KINDS[number % 4], number % 3, quality=10 + 4 * number
        )
        samples.append((data, height, width, random_crop(generator, height, width)))
    return samples


def samples_digest(thread):
    """A checksum of crops of all kinds."""
    digest = hashlib.sha256()
    for sample in _samples():
        for fast in (0, 1):
            digest.update(baseline(*sample, thread, fast).tobytes())
    return digest.hexdigest()


@pytest.mark.long("portable code")
def test_portable_code_gives_the_same_pixels(thread):
    assert by_portable_code(samples_digest) == samples_digest(thread)


def test_a_picture_after_a_damaged_one_is_whole(make_picture, thread):
    sound = make_jpeg(make_picture(80, 90))
    expected = decode_by_library(sound, 80, 90)
    for place in range(700, sound.size, 97):
        damaged = sound.copy()
        damaged[place : place + 8] = 0
        baseline(damaged, 80, 90, (0, 0, 80, 90), thread)
        np.testing.assert_array_equal(baseline(sound, 80, 90, (0, 0, 80, 90), thread), expected)


def test_without_libjpeg_s_handle_and_with_other_tables_in_turns(make_picture):
    words = np.zeros(THREAD_WORDS, np.int64)
    picture = make_picture(60, 70)
    files = [make_jpeg(picture, kind, optimised=number % 2) for number, kind in enumerate(KINDS)]
    crop = (3, 5, 40, 50)
    first = [baseline(data, 60, 70, crop, words.ctypes.data) for data in files]
    assert words[0] == 0
    for data, expected in zip(reversed(files), reversed(first), strict=True):
        np.testing.assert_array_equal(baseline(data, 60, 70, crop, words.ctypes.data), expected)
    assert decode_region(words.ctypes.data, files[0].ctypes.data, 100, 60, 70, *crop)[0] == BAD_JPEG
    release_decoder(words)
    release_thread(words)
