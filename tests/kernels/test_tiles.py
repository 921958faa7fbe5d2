"""Crops of JPEGs in tiles beside full decodes; layouts; markers that lie; memory with forbidden pages around it."""

import ctypes
import sys

import numpy as np
import pytest

from ffx.kernels.jpeg import decode_region, decode_whole
from ffx.kernels.step import BAD_JPEG, OK, SIZE_MISMATCH
from ffx.kernels.tiles import next_marker, tile_layout
from tests.kernels.guarded import Guarded
from tests.kernels.jpegs import (
    FAST_KINDS,
    KINDS,
    UNIT_HEIGHT,
    UNIT_WIDTH,
    decode_by_library,
    find_segment,
    make_jpeg,
    markers,
    random_crop,
)


def whole(data, height, width, thread, fast=0):
    pixels = np.empty((height, width, 3), np.uint8)
    status = decode_whole(thread, data.ctypes.data, data.size, height, width, pixels.ctypes.data, 3 * width, fast)
    return status, pixels


def region(data, height, width, crop, thread, fast=0):
    """The crop's pixels, or a status."""
    status, address, stride, top, left, rows, columns = decode_region(
        thread, data.ctypes.data, data.size, height, width, *crop, fast
    )
    if status != OK:
        return status
    assert 0 <= top <= crop[0] and crop[0] + crop[2] <= top + rows <= height
    assert 0 <= left <= crop[1] and crop[1] + crop[3] <= left + columns <= width
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * (rows * stride)).from_address(address))
    part = memory.reshape(rows, stride)[:, : 3 * columns].reshape(rows, columns, 3)
    return part[crop[0] - top :, crop[1] - left :][: crop[2], : crop[3]].copy()


def noise(generator, height, width):
    # Noise makes every error of upsampling at a tile's edge visible.
    return generator.integers(0, 256, (height, width, 3), np.uint8)


def crops_of(generator, height, width, unit):
    """Crops anywhere, at the picture's edges and around the edges of MCUs."""
    crops = [random_crop(generator, height, width) for _ in range(6)]
    for start in (0, width - 1, width - 2, unit - 1, unit, unit + 1):
        if 0 <= start < width:
            top = int(generator.integers(0, height))
            crops.append((top, start, height - top, 1))
    for stop in (unit - 1, unit, unit + 1, 2 * unit):
        if 0 < stop <= width:
            crops.append((0, 0, int(generator.integers(1, height + 1)), stop))
            if stop <= height:
                crops.append((0, 0, stop, min(stop, width)))
                crops.append((stop - 1, stop - 1, 1, 1))
    return crops


@pytest.mark.parametrize("fast", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_crops_of_tiles_equal_the_same_part_of_a_full_decode(kind, fast, generator, thread):
    for number in range(24):
        height, width = (int(side) for side in generator.integers(1, (40, 200)[number % 2], 2))
        across = -(-width // UNIT_WIDTH[kind])
        divisors = [count for count in range(1, across + 1) if across % count == 0]
        interval = int(generator.choice(divisors)) if number % 4 else 1
        data = make_jpeg(noise(generator, height, width), kind, interval, number % 3 == 0)
        full = decode_by_library(data, height, width, bool(fast) and kind in FAST_KINDS)
        assert full is not None
        for crop in crops_of(generator, height, width, UNIT_WIDTH[kind]):
            top, left, rows, columns = crop
            found = region(data, height, width, crop, thread, fast)
            np.testing.assert_array_equal(found, full[top : top + rows, left : left + columns], err_msg=str(crop))


@pytest.mark.parametrize("kind", KINDS)
def test_layout_is_what_the_jpeg_says(kind, generator):
    data = make_jpeg(noise(generator, 50, 70), kind, 3)
    scan, interval, *rest = tile_layout(data.ctypes.data, data.size)
    assert (interval, *rest) == (3, UNIT_HEIGHT[kind], UNIT_WIDTH[kind], 50, 70)
    head = find_segment(data, 0xDA)
    assert scan == head + 2 + (int(data[head + 2]) << 8 | int(data[head + 3]))


def test_markers_are_found_wherever_they_lie(generator):
    guarded = Guarded(4096)
    for _ in range(300):
        size = int(generator.integers(0, 200))
        data = generator.choice(np.array([0, 0xFF, 0xD0, 0xD9, 5], np.uint8), size, p=[0.2, 0.1, 0.05, 0.05, 0.6])
        pairs = [n for n in range(size - 1) if data[n] == 0xFF and data[n + 1] not in (0, 0xFF)]
        data = guarded.place(data)
        begin = data.ctypes.data
        assert next_marker(begin, begin + size) - begin == (pairs[0] if pairs else size)


# --- Damage ---


def changed(data, *changes):
    data = data.copy()
    for place, value in changes:
        data[place] = value
    return data


def without(data, start, stop):
    return np.concatenate([data[:start], data[stop:]])


@pytest.fixture
def tiled(generator):
    return make_jpeg(noise(generator, 96, 128), interval=2)


LOWER_RIGHT = (70, 100, 20, 20)


@pytest.mark.parametrize("number", [0, 5, 16])
def test_wrong_restart_numbers_are_damage(number, tiled, thread):
    place = markers(tiled)[number] + 1
    for value in (0xD0 + (number + 1) % 8, 0xD9, 0xD8, 0x01, 0):
        assert region(changed(tiled, (place, value)), 96, 128, LOWER_RIGHT, thread) == BAD_JPEG, value


@pytest.mark.parametrize("number", [0, 5, 16])
def test_missing_markers_and_tiles_are_damage(number, tiled, thread):
    places = markers(tiled)
    assert region(without(tiled, places[number], places[number] + 2), 96, 128, LOWER_RIGHT, thread) == BAD_JPEG
    assert region(without(tiled, places[number], places[number + 1]), 96, 128, LOWER_RIGHT, thread) == BAD_JPEG


def test_damage_within_a_tile_that_is_read_is_damage(tiled, thread):
    places = markers(tiled)
    middle = (places[20] + places[21]) // 2  # row 5, column 1 of 4
    for broken in (without(tiled, middle, middle + 9), changed(tiled, (middle, 0xFF), (middle + 1, 0xC4))):
        assert region(broken, 96, 128, (82, 34, 12, 20), thread) == BAD_JPEG


def test_data_that_end_before_the_crop_are_damage(tiled, thread):
    places = markers(tiled)
    for size in (places[3], places[18] + 1, places[18] + 2, places[20] + 5, tiled.size - 2, tiled.size - 1):
        assert region(tiled[:size].copy(), 96, 128, LOWER_RIGHT, thread) == BAD_JPEG, size


def test_intervals_that_lie_never_give_wrong_pixels(tiled, thread):
    full = decode_by_library(tiled, 96, 128)
    place = find_segment(tiled, 0xDD)
    for value in (0, 1, 4, 8, 3, 48, 65535):
        lying = changed(tiled, (place + 4, value >> 8), (place + 5, value & 255))
        assert whole(lying, 96, 128, thread)[0] == BAD_JPEG
        assert region(lying, 96, 128, LOWER_RIGHT, thread) == BAD_JPEG, value
    twice = np.concatenate([tiled[:place], tiled[place : place + 6], tiled[place:]])
    assert tile_layout(twice.ctypes.data, twice.size) == (0,) * 6
    top, left, rows, columns = LOWER_RIGHT
    expected = full[top : top + rows, left : left + columns]
    np.testing.assert_array_equal(region(twice, 96, 128, LOWER_RIGHT, thread), expected)


def test_sizes_that_lie_are_refused(tiled, thread):
    frame = find_segment(tiled, 0xC0)
    for height, width in ((65535, 65535), (65535, 128), (96, 65504), (0, 128)):
        sizes = zip(range(frame + 5, frame + 9), (height >> 8, height & 255, width >> 8, width & 255), strict=True)
        lying = changed(tiled, *sizes)
        assert region(lying, 96, 128, LOWER_RIGHT, thread) in (SIZE_MISMATCH, BAD_JPEG)


def test_headers_out_of_the_ordinary_have_no_layout(tiled):
    frame, scan = find_segment(tiled, 0xC0), find_segment(tiled, 0xDA)
    odd = {
        "two frames": np.concatenate([tiled[:frame], tiled[frame : frame + 19], tiled[frame:]]),
        "one component a scan": np.concatenate([tiled[: scan + 3], [8, 1, 1, 0, 0, 63, 0], tiled[scan + 14 :]]),
        "spectral selection": changed(tiled, (scan + 12, 5)),
        "12 bits": changed(tiled, (frame + 4, 12)),
        "factors of 3": changed(tiled, (frame + 11, 0x31)),
        "restart in the header": np.concatenate([tiled[:frame], [0xFF, 0xD0], tiled[frame:]]),
        "segment past the end": changed(tiled, (scan + 2, 0xFF)),
    }
    for name, data in odd.items():
        data = data.astype(np.uint8)
        assert tile_layout(data.ctypes.data, data.size) == (0,) * 6, name


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_random_damage_touches_no_memory_but_the_given(generator, thread):
    pictures = [make_jpeg(noise(generator, 70, 90), kind, 1) for kind in ("4:2:0", "4:4:4", "grey")]
    guarded = Guarded(max(data.size for data in pictures))
    statuses, layouts = set(), 0
    for number in range(1500):
        data = pictures[number % 3].copy()
        header = tile_layout(data.ctypes.data, data.size)[0]
        # Headers, markers and coded data are hit alike.
        places = generator.integers(0, header if number % 2 else data.size, int(generator.integers(1, 5)))
        if number % 5 == 0:
            places = generator.choice(markers(data), 2) + 1
        data[places] = generator.choice(
            np.array([0, 1, 2, 0xFF, 0xD0, 0xD9, 0xDA, 0xDD, 63, 17], np.uint8), places.size
        )
        if number % 7 == 0:
            data = data[: int(generator.integers(0, data.size + 1))]
        data = guarded.place(data, at_end=number % 4 > 0)
        crop = random_crop(generator, 70, 90)
        scan = tile_layout(data.ctypes.data, data.size)[0]
        layouts += scan > 0
        assert 0 <= scan <= data.size
        status = region(data, 70, 90, crop, thread, number // 3 % 2)
        statuses.add(status if isinstance(status, int) else OK)
    assert statuses == {OK, BAD_JPEG, SIZE_MISMATCH}
    assert layouts > 300
