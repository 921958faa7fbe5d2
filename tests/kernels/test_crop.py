"""Crops as torchvision draws them: the same distributions, the same way out for extreme shapes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import CenterCrop, RandomResizedCrop

from ffx.kernels.crop import center_crop, random_crop

USUAL = (0.08, 1.0), (3 / 4, 4 / 3)


def draw(height, width, scale, ratio, count, key=12345):
    """`int[count, 4]`: top, left, height, width."""
    bounds = (*map(float, scale), *(math.log(bound) for bound in ratio))
    return np.array([random_crop(height, width, *bounds, key, sample, 0) for sample in range(count)])


def torchvision_draws(height, width, scale, ratio, count):
    image = torch.empty(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)])


def largest_difference(one, other):
    """Between two empirical distribution functions (Kolmogorov and Smirnov's statistic)."""
    one, other = np.sort(one), np.sort(other)
    places = np.concatenate([one, other])
    below = [np.searchsorted(values, places, side="right") / len(values) for values in (one, other)]
    return np.abs(below[0] - below[1]).max()


@pytest.mark.parametrize(
    "height, width, scale, ratio",
    [
        (375, 500, *USUAL),
        (400, 300, (0.35, 1.0), (3 / 4, 4 / 3)),
        (64, 64, (0.25, 0.25), (1.0, 1.0)),
        # Half of the attempts do not fit, so the way out is taken now and then.
        (100, 300, (0.6, 1.0), (0.4, 2.0)),
        (9, 13, *USUAL),
    ],
)
def test_area_shape_and_place_are_distributed_as_torchvisions(height, width, scale, ratio):
    count = 4000
    ours, theirs = draw(height, width, scale, ratio, count), torchvision_draws(height, width, scale, ratio, count)
    # Exceeded once in 10,000 times for each of the six.
    bound = math.sqrt(-math.log(1e-4 / 2) / 2) * math.sqrt(2 / count)
    compared = {"top": 0, "left": 1, "height": 2, "width": 3}
    for name, column in compared.items():
        assert largest_difference(ours[:, column], theirs[:, column]) < bound, name
    for measure in (lambda crop: crop[:, 2] * crop[:, 3], lambda crop: crop[:, 3] / crop[:, 2]):
        assert largest_difference(measure(ours), measure(theirs)) < bound


@pytest.mark.parametrize(
    "height, width, ratio",
    [
        (10, 1000, (3 / 4, 4 / 3)),
        (1000, 10, (3 / 4, 4 / 3)),
        (1, 50, (1.0, 1.0)),
        (50, 1, (0.5, 2.0)),
        (3, 100, (2, 3)),
    ],
)
def test_where_nothing_fits_the_largest_centred_part_is_taken(height, width, ratio):
    # All of the area is asked for, and no rectangle of an allowed shape has it.
    expected = torchvision_draws(height, width, (1.0, 1.0), ratio, 1)[0]
    assert draw(height, width, (1.0, 1.0), ratio, 3).tolist() == [expected.tolist()] * 3


def test_the_whole_image_where_all_of_it_is_wanted():
    assert draw(60, 60, (1.0, 1.0), (1.0, 1.0), 2).tolist() == [[0, 0, 60, 60]] * 2


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    least=st.floats(1e-6, 2.0),
    share=st.floats(0.0, 1.0),
    narrow=st.floats(0.01, 100.0),
    wider=st.floats(1.0, 50.0),
    sample=st.integers(0, 2**63 - 1),
)
def test_crops_lie_within_the_image_and_are_not_empty(height, width, least, share, narrow, wider, sample):
    bounds = least, least + share, math.log(narrow), math.log(narrow * wider)
    top, left, crop_height, crop_width = random_crop(height, width, *bounds, 7, sample, 0)
    assert 0 <= top <= top + crop_height <= height and crop_height >= 1
    assert 0 <= left <= left + crop_width <= width and crop_width >= 1


def test_a_crop_is_a_function_of_its_stream():
    bounds = 0.08, 1.0, math.log(3 / 4), math.log(4 / 3)
    crops = {
        (key, sample, occurrence): random_crop(375, 500, *bounds, key, sample, occurrence)
        for key in (1, 2)
        for sample in (0, 1, 2**40)
        for occurrence in (0, 1)
    }
    assert len(set(crops.values())) == len(crops)
    assert all(random_crop(375, 500, *bounds, *stream) == crop for stream, crop in crops.items())


def test_sides_may_be_unsigned_as_in_metadata():
    bounds = 0.08, 1.0, math.log(3 / 4), math.log(4 / 3)
    expected = random_crop(375, 500, *bounds, 1, 2, 0)
    for kind in (np.uint16, np.uint64):
        found = random_crop(kind(375), kind(500), *bounds, np.uint64(1), np.uint64(2), np.uint64(0))
        centre = center_crop(kind(375), kind(500), 0.875)
        assert (found, centre) == (expected, center_crop(375, 500, 0.875))
        assert {type(number) for number in (*found, *centre)} == {int}


@pytest.mark.parametrize("size", [(256, 256), (375, 500), (500, 375), (33, 47), (7, 4)])
def test_centre_crops_are_torchvisions_where_the_rest_is_even(size):
    height, width = size
    top, left, side, same = center_crop(height, width, 0.5)
    assert side == same == int(0.5 * min(size))
    image = torch.arange(height * width).reshape(1, height, width)
    if (height - side) % 2 == (width - side) % 2 == 0:
        expected = CenterCrop(side)(image)
        assert torch.equal(image[:, top : top + side, left : left + side], expected)
    # The odd pixel, if there is one, is left over below and on the right.
    assert 0 <= (height - side - top) - top <= 1 and 0 <= (width - side - left) - left <= 1


def test_centre_crops_have_at_least_a_pixel():
    assert center_crop(5, 9, 0.0) == (2, 4, 1, 1)
    assert center_crop(1, 1, 0.1) == (0, 0, 1, 1)
