"""Flips: against NumPy, and the rate of random ones against the binomial distribution."""

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.kernels.flip import mirror
from ffx.kernels.rng import alternating_key, operation_key, uniform
from ffx.transforms import AlternatingHorizontalFlip, RandomHorizontalFlip
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


def alternating_streams(ids, epoch=0, occurrence=0, seed=1):
    """The streams that the loader gives to an operation that alternates."""
    streams = make_streams(ids)
    streams[:, 0] = np.int64(alternating_key(seed, epoch, operation_key("image", 1))).view(np.uint64)
    streams[:, 2] = occurrence
    return streams


def sides(ids, form=native, **place):
    """Which images of a batch are mirrored."""
    images = random_images(len(ids), height=3, width=5)
    values = images if form is native else torch.from_numpy(images.copy())
    result = form(AlternatingHorizontalFlip(), values, ids, alternating_streams(ids, **place))
    return was_flipped(images, np.asarray(result))


def test_alternating_flip_turns_round_in_every_epoch_and_at_every_repeat():
    ids = np.array([5, 2**40, 0, 17, 2**33 + 5, 99, *range(200, 300)], dtype=np.uint64)
    key = np.uint64(alternating_key(1, 0, operation_key("image", 1)) & (2**64 - 1))
    first = np.array([uniform(key | np.uint64(1), one, 0, 0) < 0.5 for one in ids])
    assert 0 < first.sum() < len(ids)
    for epoch in range(4):
        for occurrence in range(3):
            expected = first ^ bool((epoch + occurrence) % 2)
            np.testing.assert_array_equal(sides(ids, epoch=epoch, occurrence=occurrence), expected)


def test_alternating_flip_mirrors_half_of_the_images_first_by_seed_and_image():
    ids = np.arange(4000, dtype=np.uint64)
    one, other = sides(ids), sides(ids, seed=2)
    for flips in (one, other, one ^ other, one[1:] ^ one[:-1]):
        assert abs(flips.sum() - len(flips) / 2) <= 5 * np.sqrt(len(flips) / 4)
    chosen = [2, 3, 1999]
    np.testing.assert_array_equal(sides(ids[chosen]), one[chosen])


@pytest.mark.parametrize("epoch", [0, 1])
def test_forms_of_the_alternating_flip_agree(epoch):
    ids = np.array([5, 2**40, 0, 17, 5, 99], dtype=np.uint64)
    images = random_images(6)
    streams = alternating_streams(ids, epoch, [0, 0, 0, 2, 1, 0])
    expected = native(AlternatingHorizontalFlip(), images, ids, streams)
    for values, compiled in ((images, True), (images, False), (torch.from_numpy(images.copy()), False)):
        found = generated(AlternatingHorizontalFlip(), values, ids, streams, compiled)
        np.testing.assert_array_equal(np.asarray(found), expected)
    # The fifth is the first one's repeat.
    flips = was_flipped(images, expected)
    assert flips[0] != flips[4]
    assert AlternatingHorizontalFlip.per_sample


def test_alternating_flip_refuses_samples_that_are_no_images():
    with pytest.raises(PipelineError, match=r"AlternatingHorizontalFlip expected images of shape \(height, width"):
        AlternatingHorizontalFlip().declare_state_and_memory(array_state(np.zeros((2, 1))))
