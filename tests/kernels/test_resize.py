"""Crop and resize beside OpenCV's `INTER_AREA`, NumPy's flip and guard pages."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import resize as torchvision_resize

from ffx.kernels.resize import MOST_TAPS, resize_crop
from ffx.kernels.step import OK, OUT_OF_FILE
from ffx.kernels.taps import ANTIALIAS, AREA, BILINEAR
from tests.kernels.guarded import Guarded
from tests.kernels.portable import by_portable_code

ROOT = Path(__file__).resolve().parents[2]


def resize(image, crop, size, thread, flip=0, interpolation=AREA):
    """ffx's result, (height, width, 3); `crop` is (top, left, height, width), `size` (height, width)."""
    target = np.full((*size, 3), 77, np.uint8)
    status = resize_crop(
        image.ctypes.data,
        image.strides[0],
        *image.shape[:2],
        *crop,
        target.ctypes.data,
        *size,
        flip,
        interpolation,
        thread,
    )
    assert status == OK
    return target


def opencv(image, crop, size):
    top, left, height, width = crop
    part = image[top : top + height, left : left + width]
    return cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def difference(left, right):
    return np.abs(left.astype(np.int16) - right).max()


def random_crop(generator, image, most_height, most_width):
    height, width = (int(generator.integers(1, most + 1)) for most in (most_height, most_width))
    top = int(generator.integers(0, image.shape[0] - height + 1))
    left = int(generator.integers(0, image.shape[1] - width + 1))
    return top, left, height, width


@pytest.fixture
def noise(generator):
    """Every two neighbours differ: the hardest image for a resize."""
    return generator.integers(0, 256, (300, 400, 3), np.uint8)


def test_every_small_pair_of_sides_matches_opencv(generator, noise, thread):
    for source in range(1, 41):
        for target in range(1, 41):
            # One axis takes the pair in order, the other a random pair: both rules and their mixture.
            other = tuple(int(side) for side in generator.integers(1, 41, 2))
            for crop_size, size in (((source, other[0]), (target, other[1])), ((other[0], source), (other[1], target))):
                crop = (3, 5, *crop_size)
                assert difference(resize(noise, crop, size, thread), opencv(noise, crop, size)) <= 1, (crop, size)


@pytest.mark.parametrize("sides", ["shrinking", "growing", "mixed"])
def test_large_images_match_opencv(sides, generator, noise, thread):
    for _ in range(60):
        crop = random_crop(generator, noise, 300, 400)
        size = [int(generator.integers(1, 320)) for _ in range(2)]
        for axis in range(2):
            grows = sides == "growing" or (sides == "mixed" and axis == 0)
            low, high = (crop[2 + axis], 420) if grows else (1, crop[2 + axis])
            size[axis] = int(generator.integers(low, high + 1))
        flip = int(generator.integers(0, 2))
        expected = opencv(noise, crop, size)
        found = resize(noise, crop, tuple(size), thread, flip)
        assert difference(found, expected[:, ::-1] if flip else expected) <= 1, (crop, size)


def test_training_sizes_match_opencv_nearly_everywhere(noise, make_picture, thread):
    for image in (noise, make_picture(300, 400)):
        for crop, size in (((10, 20, 280, 360), (176, 176)), ((50, 60, 200, 200), (160, 160))):
            found, expected = resize(image, crop, size, thread), opencv(image, crop, size)
            assert difference(found, expected) <= 1
            assert np.mean(found != expected) < 0.01


def test_strong_reductions_match_opencv(generator, thread):
    image = generator.integers(0, 256, (1200, 1500, 3), np.uint8)
    image[100:700, 300:900] = 255
    for size in ((1, 1), (2, 3), (17, 1), (1, 40), (30, 30), (36, 44), (40, 1499), (1199, 9)):
        crop = (0, 0, 1200, 1500)
        assert difference(resize(image, crop, size, thread), opencv(image, crop, size)) <= 1, size


def test_both_sides_of_the_limit_of_taps_match_opencv(generator, thread):
    image = generator.integers(0, 256, (50 * MOST_TAPS, 64, 3), np.uint8)
    for height in range(4 * (MOST_TAPS - 5), 4 * (MOST_TAPS + 3)):
        crop, size = (7, 0, height, 64), (4, 32)
        assert difference(resize(image, crop, size, thread), opencv(image, crop, size)) <= 1, height


def torch_bilinear(image, crop, size, antialias):
    """torch's own resize in float32, rounded once."""
    top, left, height, width = crop
    part = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
    planes = part.permute(2, 0, 1)[None].to(torch.float64)
    result = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=antialias)
    return result[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@pytest.mark.parametrize("interpolation", [ANTIALIAS, BILINEAR])
def test_bilinear_resizes_match_torch(interpolation, generator, noise, thread):
    for index in range(400):
        crop = random_crop(generator, noise, *((300, 400) if index % 4 else (40, 40)))
        # torch 2.14 itself is wrong where an image is one pixel wide before its rows are resized.
        size = (int(generator.integers(1, 260)), int(generator.integers(2, 260 if index % 4 else 41)))
        crop = (crop[0], min(crop[1], 398), crop[2], max(crop[3], 2))
        flip = index % 2
        expected = torch_bilinear(noise, crop, size, interpolation == ANTIALIAS)
        found = resize(noise, crop, size, thread, flip, interpolation)
        assert difference(found, expected[:, ::-1] if flip else expected) <= 1, (crop, size)


def test_antialias_matches_torchvision(noise, make_picture, thread):
    for image in (noise, make_picture(300, 400)):
        for crop, size in (((10, 20, 280, 360), (176, 176)), ((50, 60, 90, 130), (160, 160))):
            top, left, height, width = crop
            part = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
            expected = torchvision_resize(part.permute(2, 0, 1), list(size), antialias=True)
            found = resize(image, crop, size, thread, 0, ANTIALIAS)
            # torchvision rounds between the axes, too.
            assert difference(found, expected.permute(1, 2, 0).numpy()) <= 1


@pytest.mark.parametrize("interpolation", [ANTIALIAS, BILINEAR])
def test_strong_reductions_match_torch(interpolation, generator, thread):
    image = generator.integers(0, 256, (1200, 1500, 3), np.uint8)
    for size in ((1, 2), (2, 3), (17, 5), (30, 30), (40, 1499)):
        crop = (0, 0, 1200, 1500)
        expected = torch_bilinear(image, crop, size, interpolation == ANTIALIAS)
        assert difference(resize(image, crop, size, thread, 0, interpolation), expected) <= 1, size


def test_same_size_is_an_exact_copy(noise, thread):
    for crop in ((0, 0, 300, 400), (17, 33, 100, 3), (299, 399, 1, 1)):
        top, left, height, width = crop
        part = noise[top : top + height, left : left + width]
        np.testing.assert_array_equal(resize(noise, crop, (height, width), thread), part)
        np.testing.assert_array_equal(resize(noise, crop, (height, width), thread, 1), part[:, ::-1])


def test_flip_is_the_mirrored_result(generator, noise, thread):
    for _ in range(50):
        crop = random_crop(generator, noise, 120, 120)
        size = tuple(int(side) for side in generator.integers(1, 90, 2))
        upright, mirrored = (resize(noise, crop, size, thread, flip) for flip in (0, 1))
        np.testing.assert_array_equal(mirrored, upright[:, ::-1])


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_flat_image_stays_flat(value, generator, thread):
    image = np.full((200, 200, 3), value, np.uint8)
    for _ in range(60):
        crop = random_crop(generator, image, 200, 200)
        size = tuple(int(side) for side in generator.integers(1, 120, 2))
        assert (resize(image, crop, size, thread) == value).all(), (crop, size)


def test_rows_may_lie_apart(generator, thread):
    wide = generator.integers(0, 256, (60, 100, 3), np.uint8)
    image = wide[:, 20:70]
    found = resize(image, (5, 6, 40, 41), (30, 30), thread)
    np.testing.assert_array_equal(found, resize(np.ascontiguousarray(image), (5, 6, 40, 41), (30, 30), thread))


@pytest.mark.parametrize(
    "crop", [(-1, 0, 5, 5), (0, -1, 5, 5), (6, 0, 5, 5), (0, 16, 5, 5), (0, 0, 0, 5), (0, 0, 5, 0), (0, 0, 11, 5)]
)
def test_crop_outside_the_image_is_refused(crop, thread):
    image, target = np.zeros((10, 20, 3), np.uint8), np.full((4, 4, 3), 7, np.uint8)
    status = resize_crop(image.ctypes.data, 60, 10, 20, *crop, target.ctypes.data, 4, 4, 0, AREA, thread)
    assert status == OUT_OF_FILE
    assert (target == 7).all()


@pytest.mark.skipif(os.name != "posix", reason="guard pages by mprotect")
def test_nothing_beyond_source_and_target_is_touched(generator, thread):
    sources, targets = Guarded(3 * 40 * 40), Guarded(3 * 40 * 40)
    sources.bytes[:] = generator.integers(0, 256, sources.bytes.size)
    sizes = [(side, int(other)) for side in range(1, 41) for other in generator.integers(1, 41, 3)]
    for index, (height, width) in enumerate(sizes):
        # The target's sides, too, run through 1 to 40.
        target_height, target_width = sizes[(index * 7 + 3) % len(sizes)][::-1]
        for source in sources.ends(3 * height * width):
            source = source.reshape(height, width, 3)
            expected = opencv(source, (0, 0, height, width), (target_height, target_width))
            for target in targets.ends(3 * target_height * target_width):
                targets.bytes[:] = 0xA5
                flip = index % 2
                status = resize_crop(
                    source.ctypes.data, 3 * width, height, width, 0, 0, height, width,
                    target.ctypes.data, target_height, target_width, flip, AREA, thread,
                )  # fmt: skip
                assert status == OK
                found = target.reshape(expected.shape)
                assert difference(found, expected[:, ::-1] if flip else expected) <= 1
                assert targets.is_untouched(0xA5, target)


@pytest.mark.slow
def test_no_index_leaves_its_array(tmp_path):
    """The tests above with numba's bounds checks, which see slips within scratch memory, too."""
    chosen = "small_pair or large_images or strong or bilinear_resizes or limit_of_taps"
    # Compiled copies do not tell whether they check: these go into a folder of their own.
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "FFX_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, str(Path(__file__))]
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout[-3000:]


def samples_digest(thread):
    """A digest of results of many shapes, to compare processes that compile for different processors."""
    generator = np.random.default_rng(5)
    image = generator.integers(0, 256, (90, 110, 3), np.uint8)
    digest = hashlib.sha256()
    for index in range(150):
        crop = random_crop(generator, image, 90, 110)
        size = tuple(int(side) for side in generator.integers(1, 70, 2))
        digest.update(resize(image, crop, size, thread, int(generator.integers(0, 2)), index % 3).tobytes())
    return digest.hexdigest()


@pytest.mark.long("portable code")
def test_portable_code_gives_the_same_pixels(thread):
    assert by_portable_code(samples_digest) == samples_digest(thread)
