"""Cutout: squares of the right size and colour, at every place equally often."""

import numpy as np
import pytest

from ffx.errors import PipelineError
from ffx.transforms import Cutout
from tests.transforms.helpers import all_forms, array_state, native, random_images


def test_one_square_of_each_image_is_filled_and_nothing_else():
    images = random_images(20, height=9, width=12)
    images[images == 7] = 8
    result = all_forms(Cutout(4, fill=(7, 7, 7)), images)
    for image, cut in zip(images, result):
        filled = np.all(cut == 7, axis=-1)
        rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
        assert filled.sum() == 16
        assert (np.ptp(rows), np.ptp(columns)) == (3, 3)
        np.testing.assert_array_equal(cut[~filled], image[~filled])


def test_fill_has_a_value_for_each_channel():
    result = native(Cutout(5, fill=(1, 2, 3)), random_images(4, height=5, width=5))
    np.testing.assert_array_equal(result, np.broadcast_to([1, 2, 3], result.shape))


def test_all_places_come_equally_often():
    count, places = 9000, 9
    cut = native(Cutout(2, fill=(255,)), np.zeros((count, 4, 4, 1), dtype=np.uint8))[..., 0]
    corners = np.array([np.argwhere(image)[0] for image in cut])
    assert corners.max() == 2
    times = np.bincount(corners[:, 0] * 3 + corners[:, 1], minlength=places)
    expected = count / places
    # Pearson's statistic with 8 degrees of freedom exceeds 31.8 once in 10,000 times.
    assert ((times - expected) ** 2 / expected).sum() < 31.8


def test_floats_are_filled():
    images = np.ones((2, 3, 3, 3), dtype=np.float32)
    result = all_forms(Cutout(3, fill=(0.25, -1, 0)), images)
    np.testing.assert_array_equal(result, np.broadcast_to(np.float32([0.25, -1, 0]), images.shape))


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Cutout(8), "crop_size from 0 to 7"),
        (Cutout(-1), "crop_size from 0 to 7"),
        (Cutout(2, fill=(0, 0)), "3 values"),
        (Cutout(2, fill=(0, 0, 256)), "from 0 to 255"),
    ],
)
def test_what_cannot_be_cut_is_refused(operation, message):
    with pytest.raises(PipelineError, match=message):
        operation.declare_state_and_memory(array_state(random_images(1)))
