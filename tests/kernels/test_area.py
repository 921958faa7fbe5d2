"""Shrinking that gives the very bytes of OpenCV's `INTER_AREA`."""

import cv2
import numpy as np
import pytest

from ffx.kernels.area import shrink_area
from ffx.kernels.step import NO_MEMORY, OK, OUT_OF_FILE
from tests.kernels.portable import by_portable_code

GUARD = 64


def shrink(picture, height, width, thread):
    """The shrunk picture; nothing around it may be touched."""
    memory = np.full(3 * height * width + 2 * GUARD, 77, np.uint8)
    status = shrink_area(
        picture.ctypes.data, picture.strides[0], *picture.shape[:2], memory[GUARD:].ctypes.data, height, width, thread
    )
    assert (memory[:GUARD] == 77).all() and (memory[-GUARD:] == 77).all()
    return status, memory[GUARD:-GUARD].reshape(height, width, 3)


def random_case(generator, most):
    """A picture and a smaller size that is not a whole fraction of it on both sides."""
    while True:
        height, width = (int(side) for side in generator.integers(1, most, 2))
        if generator.random() < 0.5:
            target_height, target_width = int(generator.integers(1, height + 1)), int(generator.integers(1, width + 1))
        else:
            ratio = generator.uniform(0.1, 1)
            target_height, target_width = max(1, int(ratio * height)), max(1, int(ratio * width))
        if height % target_height or width % target_width:
            break
    picture = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if generator.random() < 0.3:
        picture = np.where(picture > 127, np.uint8(255), np.uint8(0))
    return picture, target_height, target_width


def compare(generator, cases, most, thread):
    for _ in range(cases):
        picture, height, width = random_case(generator, most)
        status, pixels = shrink(picture, height, width, thread)
        assert status == OK
        expected = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(pixels, expected, err_msg=f"{picture.shape} to {height} x {width}")


def test_bytes_are_opencv_s(generator, thread):
    compare(generator, 400, 130, thread)


@pytest.mark.slow
def test_bytes_are_opencv_s_for_thousands_of_sizes(generator, thread):
    compare(generator, 6000, 300, thread)
    compare(generator, 100, 2500, thread)


@pytest.mark.parametrize("size", [(375, 500, 300, 400), (500, 333, 400, 266), (1, 90, 1, 40), (1000, 3, 7, 2)])
def test_rows_with_gaps_between_them(size, thread, generator):
    height, width, target_height, target_width = size
    wide = generator.integers(0, 256, (height, width + 5, 3), dtype=np.uint8)
    picture = wide[:, 2 : 2 + width]
    status, pixels = shrink(picture, target_height, target_width, thread)
    assert status == OK
    expected = cv2.resize(picture, (target_width, target_height), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("target", [(0, 5), (5, 0), (11, 5), (5, 11), (-1, 5)])
def test_impossible_sides(target, thread):
    picture = np.zeros((10, 10, 3), np.uint8)
    assert shrink_area(picture.ctypes.data, 30, 10, 10, 0, *target, thread) == OUT_OF_FILE


def test_without_scratch_memory():
    picture = np.zeros((10, 10, 3), np.uint8)
    assert shrink(picture, 7, 7, 0)[0] == NO_MEMORY


def compare_some(thread):
    """How many sizes were compared."""
    cases = 200
    compare(np.random.default_rng(5), cases, 150, thread)
    return cases


@pytest.mark.slow
@pytest.mark.long("portable code")
def test_portable_code_gives_the_same_bytes():
    assert by_portable_code(compare_some) == "200"
