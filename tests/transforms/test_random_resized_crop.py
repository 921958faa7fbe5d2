"""RandomResizedCrop: each result is a resized part of its image, chosen as torchvision chooses."""

import math

import cv2
import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.kernels.crop import random_crop
from ffx.transforms import RandomResizedCrop
from tests.pictures import make_picture
from tests.transforms.helpers import all_forms, array_state, make_streams, native, random_images

SCALE, RATIO = (0.2, 0.9), (3 / 4, 4 / 3)


def test_equals_opencv_on_the_chosen_part():
    images = np.stack([make_picture(60, 80, seed) for seed in range(12)])
    result = native(RandomResizedCrop(SCALE, RATIO, 24), images)
    bounds = (*SCALE, *(math.log(ratio) for ratio in RATIO))
    for image, made, stream in zip(images, result, make_streams(np.arange(12))):
        top, left, height, width = random_crop(60, 80, *bounds, *stream)
        part = image[top : top + height, left : left + width]
        expected = cv2.resize(part, (24, 24), interpolation=cv2.INTER_AREA)
        assert np.abs(made.astype(int) - expected.astype(int)).max() <= 2


def test_all_forms_agree():
    result = all_forms(RandomResizedCrop(SCALE, RATIO, 9), random_images(8, 20, 31))
    assert result.shape == (8, 9, 9, 3)


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear"])
def test_interpolation_is_torchs(interpolation):
    images = random_images(6, 30, 41)
    operation = RandomResizedCrop((1, 1), (41 / 30, 41 / 30), (12, 50), interpolation=interpolation)
    result = all_forms(operation, images)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    expected = torch.nn.functional.interpolate(
        planes, (12, 50), mode="bilinear", antialias=interpolation == "antialias"
    )
    assert (torch.from_numpy(result).permute(0, 3, 1, 2).double() - expected).abs().max() <= 1


def test_height_and_width_may_differ():
    assert native(RandomResizedCrop(SCALE, RATIO, (5, 8)), random_images(2, 20, 31)).shape == (2, 5, 8, 3)


def test_a_whole_image_of_the_right_size_is_copied():
    images = random_images(3, 16, 16)
    np.testing.assert_array_equal(native(RandomResizedCrop((1, 1), (1, 1), 16), images), images)


def test_what_cannot_be_cropped_is_refused():
    with pytest.raises(PipelineError, match="least, most"):
        RandomResizedCrop((0.5, 0.2), RATIO, 8)
    with pytest.raises(PipelineError, match="'area', 'antialias', 'bilinear', found 'cubic'"):
        RandomResizedCrop(SCALE, RATIO, 8, interpolation="cubic")
    with pytest.raises(PipelineError, match="size of at least 1"):
        RandomResizedCrop(SCALE, RATIO, 0).declare_state_and_memory(array_state(random_images(1)))
    with pytest.raises(PipelineError, match=r"\(height, width, 3\)"):
        RandomResizedCrop(SCALE, RATIO, 8).declare_state_and_memory(array_state(random_images(1, channels=1)))
