"""Brightness, contrast and saturation against torchvision, within one level."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from ffx.errors import PipelineError
from ffx.kernels.rng import stream_uniform
from ffx.transforms import RandomBrightness, RandomContrast, RandomSaturation
from tests.pictures import make_picture
from tests.transforms.helpers import all_forms, array_state, make_streams, native, random_images

ADJUSTMENTS = [
    (RandomBrightness, functional.adjust_brightness),
    (RandomContrast, functional.adjust_contrast),
    (RandomSaturation, functional.adjust_saturation),
]


def expected_factor(stream: np.ndarray, magnitude: float) -> float:
    least, most = max(0.0, 1 - magnitude), 1 + magnitude
    return least + (most - least) * stream_uniform(stream, 1)


@pytest.mark.parametrize(("operation", "reference"), ADJUSTMENTS)
@pytest.mark.parametrize("magnitude", [0.4, 1.5])
def test_equals_torchvision(operation, reference, magnitude):
    pictures = [make_picture(20, 30, seed) for seed in range(10)] + list(random_images(10, 20, 30))
    images = np.stack(pictures)
    result = native(operation(magnitude, p=1.0), images)
    for image, adjusted, stream in zip(images, result, make_streams(np.arange(20))):
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        expected = reference(tensor, expected_factor(stream, magnitude)).permute(1, 2, 0).numpy()
        difference = np.abs(adjusted.astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 0.02


@pytest.mark.parametrize(("operation", "reference"), ADJUSTMENTS)
def test_all_forms_agree(operation, reference):
    all_forms(operation(0.7, p=0.6), random_images(20))


@pytest.mark.parametrize(("operation", "reference"), ADJUSTMENTS)
def test_no_magnitude_changes_nothing(operation, reference):
    images = random_images(10)
    np.testing.assert_array_equal(native(operation(0.0, p=1.0), images), images)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_share_of_changed_images_is_the_probability(probability):
    images = np.full((3000, 2, 2, 3), 100, dtype=np.uint8)
    result = native(RandomBrightness(0.9, probability), images)
    factors = np.array([expected_factor(stream, 0.9) for stream in make_streams(np.arange(3000))])
    visible = np.abs(100 * factors - 100) > 1
    changed = np.any(result != images, axis=(1, 2, 3))[visible].sum()
    deviation = np.sqrt(visible.sum() * probability * (1 - probability))
    assert abs(changed - visible.sum() * probability) <= 5 * deviation


@pytest.mark.parametrize(("operation", "reference"), ADJUSTMENTS)
def test_wrong_arguments_and_images_are_refused(operation, reference):
    with pytest.raises(PipelineError, match="magnitude of at least 0"):
        operation(-0.1)
    with pytest.raises(PipelineError, match="p from 0 to 1"):
        operation(0.5, p=2)
    with pytest.raises(PipelineError, match=r"\(height, width, 3\)"):
        operation(0.5).declare_state_and_memory(array_state(random_images(1, channels=1)))
    with pytest.raises(PipelineError, match="before NormalizeImage"):
        operation(0.5).declare_state_and_memory(array_state(random_images(1).astype(np.float32)))
