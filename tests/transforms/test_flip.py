"""RandomHorizontalFlip: against NumPy, and its rate against the binomial distribution."""

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.kernels.flip import mirror
from ffx.kernels.rng import uniform
from ffx.transforms import RandomHorizontalFlip
from tests.transforms.helpers import (
    all_forms,
    array_state,
    generated,
    make_streams,
    native,
    random_images,
    tensor_state,
)


def was_flipped(images: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Which images are mirrored; every image must be either as it was or mirrored."""
    flipped = np.array([np.array_equal(one, other[:, ::-1]) for one, other in zip(result, images)])
    same = np.array([np.array_equal(one, other) for one, other in zip(result, images)])
    assert np.all(flipped ^ same)
    return flipped


def test_each_image_is_mirrored_or_left_as_it_was():
    images = random_images(40)
    flipped = was_flipped(images, all_forms(RandomHorizontalFlip(), images))
    assert 0 < flipped.sum() < 40


def test_flip_follows_the_first_number_of_the_samples_stream():
    ids = np.array([5, 2**40, 0, 17, 5, 99], dtype=np.uint64)
    streams = make_streams(ids)
    streams[4, 2] = 1  # the second time that sample 5 comes
    expected = [uniform(*stream, 0) < 0.5 for stream in streams]
    images = random_images(6, height=3, width=4)
    np.testing.assert_array_equal(was_flipped(images, native(RandomHorizontalFlip(), images, ids, streams)), expected)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_rate_of_flips_is_the_probability(probability):
    count = 4000
    images = random_images(count, height=1, width=5)
    flips = was_flipped(images, native(RandomHorizontalFlip(probability), images)).sum()
    assert abs(flips - count * probability) <= 5 * np.sqrt(count * probability * (1 - probability))


def test_flips_of_two_epochs_are_independent():
    ids = np.arange(2000, dtype=np.uint64)
    images = random_images(2000, height=1, width=5)
    first, second = (
        was_flipped(images, native(RandomHorizontalFlip(), images, ids, make_streams(ids, epoch=epoch)))
        for epoch in (0, 1)
    )
    assert abs((first == second).sum() - 1000) < 5 * np.sqrt(500)


@pytest.mark.parametrize("width", [1, 3, 15, 16, 17, 32, 50, 224])
def test_rows_of_any_length_are_mirrored(width):
    image = random_images(1, height=3, width=width)[0]
    result = np.zeros_like(image)
    mirror(image.ctypes.data, result.ctypes.data, 3, width, 3)
    np.testing.assert_array_equal(result, image[:, ::-1])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_other_channels_and_types_are_flipped(shape, dtype):
    images = np.random.default_rng(1).integers(0, 200, size=(6, *shape)).astype(dtype)
    np.testing.assert_array_equal(native(RandomHorizontalFlip(1.0), images), images[:, :, ::-1])


def test_plain_python_flips_grey_images():
    images = random_images(3)[..., 0]
    code = RandomHorizontalFlip(1.0).generate_code()
    result = code(images, np.empty_like(images), make_streams(np.arange(3, dtype=np.uint64)))
    np.testing.assert_array_equal(result, images[:, :, ::-1])


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_0_to_1_is_refused(probability):
    with pytest.raises(PipelineError, match="flip_prob from 0 to 1"):
        RandomHorizontalFlip(probability)


def test_samples_that_are_no_images_are_refused():
    with pytest.raises(PipelineError, match=r"\(height, width"):
        RandomHorizontalFlip().declare_state_and_memory(array_state(np.zeros((2, 1))))


def test_flip_on_tensors_is_the_flip_on_arrays():
    images = random_images(40)
    found = generated(RandomHorizontalFlip(), torch.from_numpy(images.copy()))
    np.testing.assert_array_equal(found.numpy(), native(RandomHorizontalFlip(), images))
    assert RandomHorizontalFlip.per_sample


def test_flip_on_tensors_refuses_channels_that_come_first():
    with pytest.raises(PipelineError, match=r"before ToTorchImage\(\)"):
        RandomHorizontalFlip().declare_state_and_memory(tensor_state(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)))
