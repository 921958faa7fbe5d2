"""ReplaceLabel and Poison: only the chosen samples change, by their indices in the file."""

import numpy as np
import pytest

from ffx.errors import PipelineError
from ffx.transforms import Poison, ReplaceLabel
from tests.transforms.helpers import all_forms, array_state, generated, native, random_images

IDS = np.array([7, 3, 2**40, 0, 3, 11], dtype=np.uint64)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_chosen_labels_are_replaced(dtype):
    labels = np.arange(6, dtype=dtype)[:, None]
    result = native(ReplaceLabel([3, 2**40, 5], 77), labels, IDS)
    np.testing.assert_array_equal(result[:, 0], [0, 77, 77, 3, 77, 5])


def test_replacing_leaves_other_pipelines_labels_alone():
    all_forms(ReplaceLabel(np.array([11, 3], dtype=np.int32), -1), np.arange(6)[:, None], IDS)


def test_no_index_and_every_index():
    labels = np.arange(6)[:, None]
    np.testing.assert_array_equal(native(ReplaceLabel([], 9), labels, IDS), labels)
    assert np.all(native(ReplaceLabel(IDS.tolist(), 9), labels, IDS) == 9)


def test_chosen_images_are_poisoned():
    generator = np.random.default_rng(5)
    images, mask, alpha = random_images(6), random_images(1, seed=9)[0], generator.random((7, 11))
    result = all_forms(Poison(mask, alpha, [3, 0]), images, IDS)
    chosen = np.isin(IDS, [3, 0])
    np.testing.assert_array_equal(result[~chosen], images[~chosen])
    blend = images[chosen] * (1 - alpha[..., None]) + mask * alpha[..., None]
    # Levels are cut off, so a result lies less than one below the blend.
    assert np.all((blend - result[chosen] > -1e-3) & (blend - result[chosen] < 1.001))


def test_poison_takes_one_opacity_and_clamps():
    images = random_images(2)
    mask = np.full((7, 11, 3), 300.0)
    result = generated(Poison(mask, 1.0, [1], clamp=(5, 200)), images, compiled=False)
    assert np.all(result[1] == 200)
    np.testing.assert_array_equal(result[0], images[0])


@pytest.mark.parametrize("indices", [[-1, 2], [0.5], [[1, 2]]])
def test_indices_that_are_no_samples_are_refused(indices):
    with pytest.raises(PipelineError, match="list of sample numbers"):
        ReplaceLabel(indices, 0)
    with pytest.raises(PipelineError, match="list of sample numbers"):
        Poison(np.zeros((7, 11, 3)), 0.5, indices)


def test_labels_and_masks_that_do_not_fit_are_refused():
    with pytest.raises(PipelineError, match="uint8 can hold"):
        ReplaceLabel([1], 256).declare_state_and_memory(array_state(np.zeros((2, 1), dtype=np.uint8)))
    with pytest.raises(PipelineError, match="expected a mask of"):
        Poison(np.zeros((7, 12, 3)), 0.5, [1]).declare_state_and_memory(array_state(random_images(1)))
    with pytest.raises(PipelineError, match="an alpha of"):
        Poison(np.zeros((7, 11, 3)), np.zeros(3), [1]).declare_state_and_memory(array_state(random_images(1)))
