"""Planar YUV 4:2:0: crop, resize and conversion beside exact sums in NumPy, and guard pages."""

import hashlib
import os

import cv2
import numpy as np
import pytest

from ffx.kernels.step import OK, OUT_OF_FILE
from ffx.kernels.taps import ANTIALIAS, AREA, BILINEAR
from ffx.kernels.yuv import MOST_TAPS, resize_crop_yuv420, yuv420_bytes
from ffx.kernels.yuv_encode import rgb_to_yuv420
from tests.kernels.guarded import Guarded
from tests.kernels.portable import by_portable_code
from tests.yuv_planes import exact_planes, exact_resize, pack, split


def resize(planes, height, width, crop, size, thread, flip=0, interpolation=AREA):
    """ffx's result, (*size, 3)."""
    target = np.full((*size, 3), 77, np.uint8)
    status = resize_crop_yuv420(
        planes.ctypes.data, height, width, *crop, target.ctypes.data, *size, flip, interpolation, thread
    )
    assert status == OK
    return target


def noise(generator, height, width):
    """Planes in which every two neighbours differ, and many colours are outside what RGB can show."""
    return generator.integers(0, 256, yuv420_bytes(height, width), np.uint8)


def random_crop(generator, height, width):
    sides = int(generator.integers(1, height + 1)), int(generator.integers(1, width + 1))
    return int(generator.integers(0, height - sides[0] + 1)), int(generator.integers(0, width - sides[1] + 1)), *sides


# Half a grey level is rounding.
MOST_DIFFERENCE = 0.5 + 0.3


@pytest.mark.parametrize("interpolation", [AREA, ANTIALIAS, BILINEAR])
def test_small_sizes_match_exact_sums(interpolation, generator, thread):
    for side in range(1, 40):
        for _ in range(6):
            height, width = side, int(generator.integers(1, 45))
            planes, crop = noise(generator, height, width), random_crop(generator, height, width)
            size = tuple(int(number) for number in generator.integers(1, 45, 2))
            flip = int(generator.integers(0, 2))
            exact = exact_resize(planes, height, width, crop, size, interpolation)
            found = resize(planes, height, width, crop, size, thread, flip, interpolation)
            difference = np.abs(found - (exact[:, ::-1] if flip else exact)).max()
            assert difference <= MOST_DIFFERENCE, (height, width, crop, size, flip)


@pytest.mark.parametrize("interpolation", [AREA, ANTIALIAS, BILINEAR])
def test_usual_sizes_match_exact_sums(interpolation, generator, thread):
    for _ in range(25):
        height, width = (int(side) for side in generator.integers(100, 420, 2))
        planes, crop = noise(generator, height, width), random_crop(generator, height, width)
        size = tuple(int(number) for number in generator.integers(1, 260, 2))
        exact = exact_resize(planes, height, width, crop, size, interpolation)
        found = resize(planes, height, width, crop, size, thread, 0, interpolation)
        assert np.abs(found - exact).max() <= MOST_DIFFERENCE, (height, width, crop, size)


def test_strong_reductions_match_exact_sums(generator, thread):
    height, width = 1201, 1403
    planes = noise(generator, height, width)
    for size in ((1, 1), (2, 3), (17, 1), (1, 40), (30, 30), (36, 44), (40, 1399), (1199, 9)):
        crop = (1, 1, height - 1, width - 1)
        exact = exact_resize(planes, height, width, crop, size)
        assert np.abs(resize(planes, height, width, crop, size, thread) - exact).max() <= MOST_DIFFERENCE, size


def test_both_sides_of_the_limit_of_taps_match_exact_sums(generator, thread):
    planes = noise(generator, 4 * MOST_TAPS + 40, 64)
    for height in range(4 * (MOST_TAPS - 5), 4 * (MOST_TAPS + 3), 2):
        crop, size = (7, 0, height, 64), (4, 32)
        exact = exact_resize(planes, 4 * MOST_TAPS + 40, 64, crop, size)
        assert np.abs(resize(planes, 4 * MOST_TAPS + 40, 64, crop, size, thread) - exact).max() <= MOST_DIFFERENCE


def test_flip_is_the_mirrored_result(generator, thread):
    planes = noise(generator, 90, 121)
    for _ in range(30):
        crop, size = random_crop(generator, 90, 121), tuple(int(side) for side in generator.integers(1, 90, 2))
        upright, mirrored = (resize(planes, 90, 121, crop, size, thread, flip) for flip in (0, 1))
        np.testing.assert_array_equal(mirrored, upright[:, ::-1])


def test_flat_image_stays_flat(generator, thread):
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (17, 130, 201)):
        planes = pack(np.full((150, 151, 3), colour, np.uint8))
        expected = exact_resize(planes, 150, 151, (0, 0, 1, 1), (1, 1))[0, 0]
        for _ in range(15):
            crop, size = random_crop(generator, 150, 151), tuple(int(side) for side in generator.integers(1, 90, 2))
            found = resize(planes, 150, 151, crop, size, thread)
            # A colour that lies between two grey levels may be rounded either way.
            assert np.abs(found - expected).max() <= 0.65, (colour, crop, size)


def test_picture_looks_as_it_did(make_picture, thread):
    picture = make_picture(300, 401)
    crop, size = (10, 21, 280, 361), (176, 176)
    found = resize(pack(picture), 300, 401, crop, size, thread)
    expected = cv2.resize(picture[10:290, 21:382], size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize(
    "crop", [(-1, 0, 5, 5), (0, -1, 5, 5), (6, 0, 5, 5), (0, 16, 5, 5), (0, 0, 0, 5), (0, 0, 5, 0), (0, 0, 11, 5)]
)
def test_crop_outside_the_image_is_refused(crop, thread):
    planes, target = np.zeros(yuv420_bytes(10, 20), np.uint8), np.full((4, 4, 3), 7, np.uint8)
    status = resize_crop_yuv420(planes.ctypes.data, 10, 20, *crop, target.ctypes.data, 4, 4, 0, AREA, thread)
    assert status == OUT_OF_FILE
    assert (target == 7).all()


@pytest.mark.skipif(os.name != "posix", reason="guard pages by mprotect")
def test_nothing_beyond_planes_and_target_is_touched(generator, thread):
    sources, targets = Guarded(yuv420_bytes(60, 70)), Guarded(3 * 60 * 60)
    sources.bytes[:] = generator.integers(0, 256, sources.bytes.size)
    sizes = [(side, int(other)) for side in range(1, 61) for other in generator.integers(1, 71, 3)]
    for index, (height, width) in enumerate(sizes):
        # The target's sides, too, run through small numbers.
        size = tuple(min(side, 60) for side in sizes[(index * 7 + 3) % len(sizes)][::-1])
        flip = index % 2
        for planes in sources.ends(yuv420_bytes(height, width)):
            exact = exact_resize(planes, height, width, (0, 0, height, width), size)
            for target in targets.ends(3 * size[0] * size[1]):
                targets.bytes[:] = 0xA5
                status = resize_crop_yuv420(
                    planes.ctypes.data, height, width, 0, 0, height, width,
                    target.ctypes.data, *size, flip, AREA, thread,
                )  # fmt: skip
                assert status == OK
                found = target.reshape(*size, 3)
                assert np.abs(found - (exact[:, ::-1] if flip else exact)).max() <= MOST_DIFFERENCE
                assert targets.is_untouched(0xA5, target)


def samples_digest(thread):
    """A digest of results of many shapes, to compare processes that compile for different processors."""
    generator = np.random.default_rng(5)
    digest = hashlib.sha256()
    for index in range(120):
        height, width = (int(side) for side in generator.integers(1, 140, 2))
        planes, crop = noise(generator, height, width), random_crop(generator, height, width)
        size = tuple(int(side) for side in generator.integers(1, 70, 2))
        digest.update(resize(planes, height, width, crop, size, thread, index % 2, index % 3).tobytes())
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        rgb_to_yuv420(pixels, planes)
        digest.update(planes.tobytes())
    return digest.hexdigest()


@pytest.mark.long("portable code")
def test_portable_code_gives_the_same_bytes(thread):
    assert by_portable_code(samples_digest) == samples_digest(thread)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 3), (16, 16), (17, 40), (64, 33), (101, 99)])
def test_written_planes_are_the_exact_ones_rounded(size, generator):
    for pixels in (
        generator.integers(0, 256, (*size, 3), np.uint8),
        generator.choice(np.array([0, 255], np.uint8), (*size, 3)),
    ):
        planes = np.full(yuv420_bytes(*size), 7, np.uint8)
        rgb_to_yuv420(pixels, planes)
        for found, exact in zip(split(planes, *size), exact_planes(pixels), strict=True):
            assert np.abs(found - np.minimum(exact, 255)).max() <= 0.501


def test_written_luma_is_rounded_up_from_the_half(generator):
    pixels = generator.integers(0, 256, (256, 256, 3), np.uint8)
    planes = np.empty(yuv420_bytes(256, 256), np.uint8)
    rgb_to_yuv420(pixels, planes)
    thousandths = pixels.astype(np.int64) @ np.array([299, 587, 114])
    np.testing.assert_array_equal(planes[: 256 * 256].reshape(256, 256), (thousandths + 500) // 1000)
