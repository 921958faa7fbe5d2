"""RandomTranslate: the same as padding and cropping with NumPy."""

import numpy as np
import pytest

from ffx.errors import PipelineError
from ffx.kernels.rng import stream_uniform
from ffx.transforms import RandomTranslate
from tests.transforms.helpers import all_forms, array_state, make_streams, native, random_images


@pytest.mark.parametrize("padding", [0, 2, 9, 30])
def test_equals_padding_and_cropping(padding):
    images = random_images(30)
    height, width = images.shape[1:3]
    streams = make_streams(np.arange(30))
    fill = np.array([10, 20, 30], dtype=np.uint8)
    result = native(RandomTranslate(padding, fill=(10, 20, 30)), images)
    for image, moved, stream in zip(images, result, streams):
        padded = np.empty((height + 2 * padding, width + 2 * padding, 3), dtype=np.uint8)
        padded[:] = fill
        padded[padding : padding + height, padding : padding + width] = image
        top, left = (int(stream_uniform(stream, draw) * (2 * padding + 1)) for draw in (0, 1))
        np.testing.assert_array_equal(moved, padded[top : top + height, left : left + width])


def test_all_forms_agree():
    all_forms(RandomTranslate(4, fill=(1, 2, 3)), random_images(20))


def test_all_moves_come_equally_often():
    images = np.zeros((9000, 5, 5, 1), dtype=np.uint8)
    images[:, 2, 2] = 1
    moved = native(RandomTranslate(1, fill=(0,)), images)[..., 0]
    places = np.argwhere(moved)[:, 1:] - 2
    times = np.bincount((places[:, 0] + 1) * 3 + places[:, 1] + 1, minlength=9)
    assert len(times) == 9
    assert ((times - 1000) ** 2 / 1000).sum() < 31.8


def test_negative_padding_and_wrong_fill_are_refused():
    with pytest.raises(PipelineError, match="padding of at least 0"):
        RandomTranslate(-1)
    with pytest.raises(PipelineError, match="3 values"):
        RandomTranslate(1, fill=(1, 2)).declare_state_and_memory(array_state(random_images(1)))
