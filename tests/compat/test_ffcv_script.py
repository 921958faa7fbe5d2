"""A script that was written for FFCV runs with one word changed and gives the same batches."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torchvision

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("script_for_ffcv.py")
MEAN, DEVIATION = np.float32([120, 110, 100]), np.float32([60, 55, 50])


def run_script(word, pictures, folder):
    """Run the script with `ffcv` written as `word`, outside the repository; return its arrays."""
    folder.mkdir(exist_ok=True)
    script, batches = folder / "script.py", folder / "batches.npz"
    script.write_text(SCRIPT.read_text().replace("ffcv", word))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(pictures), str(folder / "file.beton"), str(batches)],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(np.load(batches))


@pytest.fixture(scope="module")
def ffx_batches(picture_folder, tmp_path_factory):
    return run_script("ffx", picture_folder / "val", tmp_path_factory.mktemp("script") / "ffx")


def expected(pictures, size):
    """Grey levels (n, 3, size, size) by OpenCV and NumPy alone."""
    found = []
    for image, _ in torchvision.datasets.ImageFolder(str(pictures)):
        image = np.asarray(image)
        ratio = 120 / max(image.shape[:2])
        if ratio < 1:
            image = cv2.resize(
                image, (int(ratio * image.shape[1]), int(ratio * image.shape[0])), interpolation=cv2.INTER_AREA
            )
        height, width = image.shape[:2]
        side = int(224 / 256 * min(height, width))
        top, left = (height - side) // 2, (width - side) // 2
        crop = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
        framed = crop // 2
        framed[4:-4, 4:-4] = crop[4:-4, 4:-4]
        found.append(framed.transpose(2, 0, 1))
    return np.stack(found).astype(np.float32)


def grey_levels(images):
    return images * DEVIATION[:, None, None] + MEAN[:, None, None]


@pytest.mark.parametrize(("name", "size"), [("images", 64), ("small", 48)])
def test_images_are_within_one_grey_level_of_opencv(ffx_batches, picture_folder, name, size):
    images = ffx_batches[name]
    assert images.shape == (12, 3, size, size)
    assert images.dtype == np.float32
    difference = np.abs(grey_levels(images) - expected(picture_folder / "val", size))
    assert difference.max() < 1.01
    assert difference.mean() < 0.1


def test_operation_with_indices_saw_each_sample(ffx_batches):
    labels = np.repeat(np.arange(4), 3)
    labels[[1, 5, 11]] = 1000
    assert ffx_batches["labels"].tolist() == labels.tolist()


@pytest.mark.slow
def test_ffcv_gives_the_same_batches(ffx_batches, picture_folder, tmp_path):
    if importlib.util.find_spec("ffcv") is None:
        pytest.skip("FFCV is not installed")
    theirs = run_script("ffcv", picture_folder / "val", tmp_path / "ffcv")
    assert theirs["labels"].tolist() == ffx_batches["labels"].tolist()
    for name in ("images", "small"):
        assert theirs[name].shape == ffx_batches[name].shape
        assert np.abs(grey_levels(theirs[name]) - grey_levels(ffx_batches[name])).max() < 1.01
