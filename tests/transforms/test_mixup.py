"""MixUp: weights by the right distribution, the same for images and labels."""

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.kernels.mixup import content_key, symmetric_beta, weights
from ffx.transforms import ImageMixup, LabelMixup, MixupToOneHot
from tests.transforms.helpers import all_forms, array_state, generated, random_images, tensor_state

IDS = np.array([3, 14, 15, 92, 65, 35], dtype=np.uint64)
LABELS = np.array([[4], [0], [2], [2], [1], [3]])


@pytest.mark.parametrize("same", [True, False])
def test_images_are_blended_with_their_neighbours(same):
    images = random_images(6)
    result = all_forms(ImageMixup(0.4, same), images, IDS)
    weight = all_forms(LabelMixup(0.4, same), LABELS, IDS)[:, 2].astype(np.float64)[:, None, None, None]
    expected = weight * images + (1 - weight) * np.roll(images, 1, axis=0)
    assert np.abs(result - expected).max() <= 0.501
    assert (len(np.unique(weight)) == 1) == same


def test_floats_are_blended_without_rounding():
    images = np.random.default_rng(0).random((4, 5), dtype=np.float32)
    weight = weights(np.arange(4, dtype=np.uint64), 1.0, False)[:, None]
    result = generated(ImageMixup(1.0, False), images)
    np.testing.assert_allclose(result, weight * images + (1 - weight) * np.roll(images, 1, axis=0), rtol=1e-6)


def test_labels_come_with_their_neighbours():
    result = generated(LabelMixup(0.4, False), LABELS, IDS, compiled=False)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[:, 0], LABELS[:, 0])
    np.testing.assert_array_equal(result[:, 1], np.roll(LABELS[:, 0], 1))
    assert np.all((result[:, 2] >= 0) & (result[:, 2] <= 1))


def test_weights_depend_on_which_samples_stand_in_the_batch_and_where():
    same = weights(IDS, 0.4, False)
    np.testing.assert_array_equal(weights(IDS.copy(), 0.4, False), same)
    assert not np.array_equal(weights(IDS[::-1].copy(), 0.4, False), same)
    assert not np.array_equal(weights(IDS + np.uint64(1), 0.4, False), same)
    keys = {int(content_key(np.array(ids, dtype=np.uint64))) for ids in ([], [0], [0, 0], [1], [1, 0], [0, 1])}
    assert len(keys) == 6


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.7, 1.0, 1.001, 2.5, 20.0])
def test_weights_follow_the_beta_distribution(alpha):
    count = 4000
    drawn = np.sort([symmetric_beta(alpha, np.uint64(99), np.uint64(number)) for number in range(count)])
    reference = np.sort(np.random.default_rng(7).beta(alpha, alpha, 20 * count))
    places = np.concatenate([drawn, reference])
    distance = np.abs(
        np.searchsorted(drawn, places, side="right") / count
        - np.searchsorted(reference, places, side="right") / len(reference)
    ).max()
    # Kolmogorov and Smirnov's two-sample bound, exceeded once in 10,000 times.
    assert distance < 2.23 * np.sqrt(1 / count + 1 / len(reference))


def test_tiny_alpha_gives_no_nan():
    drawn = np.array([symmetric_beta(1e-3, np.uint64(1), np.uint64(number)) for number in range(500)])
    assert np.all((drawn >= 0) & (drawn <= 1))
    assert abs((drawn > 0.5).mean() - 0.5) < 0.12


@pytest.mark.parametrize("count", [1, 2])
def test_short_batches(count):
    images = random_images(count)
    result = generated(ImageMixup(0.4, True), images, compiled=False)
    if count == 1:
        np.testing.assert_array_equal(result, images)
    mixed = generated(LabelMixup(0.4, True), LABELS[:count], compiled=False)
    assert mixed.shape == (count, 3)


def test_one_hot_rows_are_probabilities():
    mixed = torch.tensor([[1, 3, 0.75], [2, 2, 0.25], [0, 4, 1.0]])
    result = generated(MixupToOneHot(5), mixed.clone())
    expected = torch.tensor([[0, 0.75, 0, 0.25, 0], [0, 0, 1.0, 0, 0], [1.0, 0, 0, 0, 0]])
    assert torch.equal(result, expected)


def test_one_hot_leaves_its_input_alone():
    mixed = torch.tensor([[1, 3, 0.75]])
    generated(MixupToOneHot(5), mixed)
    assert torch.equal(mixed, torch.tensor([[1, 3, 0.75]]))


def test_what_cannot_be_mixed_is_refused():
    for operation in (ImageMixup, LabelMixup):
        for alpha in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(PipelineError, match="alpha above 0"):
                operation(alpha, True)
    with pytest.raises(PipelineError, match="one label a sample"):
        LabelMixup(0.2, True).declare_state_and_memory(array_state(np.zeros((2, 3))))
    with pytest.raises(PipelineError, match="LabelMixup"):
        MixupToOneHot(4).declare_state_and_memory(tensor_state(torch.zeros(2, 1)))
