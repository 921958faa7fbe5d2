"""What has no randomness gives what FFCV's own functions give."""

import numpy as np
import pytest
import torch

from ffx import transforms
from tests.transforms.helpers import generated, random_images

theirs = pytest.importorskip("ffcv.transforms")
pipeline = pytest.importorskip("ffcv.pipeline.state")

IDS = np.array([7, 3, 12, 0, 3], dtype=np.uint64)


def their_result(operation, values, memory=None):
    """Call FFCV's function as plain Python on copies."""
    if isinstance(values, np.ndarray):
        state = pipeline.State(True, torch.device("cpu"), values.shape[1:], values.dtype)
    else:
        state = pipeline.State(False, torch.device("cpu"), tuple(values.shape[1:]), values.dtype)
    _, query = operation.declare_state_and_memory(state)
    if query is not None and memory is None:
        shape = (len(values), *query.shape)
        memory = torch.empty(shape, dtype=query.dtype) if isinstance(query.dtype, torch.dtype) else None
        memory = np.empty(shape, dtype=query.dtype) if memory is None else memory
    code = operation.generate_code()
    copy = values.copy() if isinstance(values, np.ndarray) else values.clone()
    return code(copy, memory, IDS) if getattr(code, "with_indices", False) else code(copy, memory)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_normalize_image(dtype):
    images, mean, std = random_images(5), np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    expected = their_result(theirs.NormalizeImage(mean, std, dtype), images)
    result = generated(transforms.NormalizeImage(mean, std, dtype), images, IDS, compiled=False)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_poison():
    generator = np.random.default_rng(2)
    images, mask, alpha = random_images(5), random_images(1, seed=3)[0], generator.random((7, 11))
    expected = their_result(theirs.Poison(mask, alpha, [3, 12], (10, 240)), images)
    result = generated(transforms.Poison(mask, alpha, [3, 12], (10, 240)), images, IDS, compiled=False)
    np.testing.assert_array_equal(result, expected)


def test_replace_label():
    labels = np.arange(5)[:, None]
    expected = their_result(theirs.ReplaceLabel([3, 0], 9), labels)
    np.testing.assert_array_equal(generated(transforms.ReplaceLabel([3, 0], 9), labels, IDS, compiled=False), expected)


def test_mixup_to_one_hot_of_different_labels():
    mixed = torch.tensor([[1, 3, 0.75], [4, 0, 0.25], [2, 1, 1.0]])
    expected = their_result(theirs.MixupToOneHot(5), mixed)
    assert torch.equal(generated(transforms.MixupToOneHot(5), mixed), expected)


@pytest.mark.parametrize("channels_last", [True, False])
def test_to_torch_image(channels_last):
    images = torch.from_numpy(random_images(5))
    expected = their_result(theirs.ToTorchImage(channels_last), images)
    result = generated(transforms.ToTorchImage(channels_last), images)
    assert result.stride() == expected.stride()
    assert torch.equal(result, expected)


def test_every_name_is_there():
    assert set(theirs.__all__) <= set(transforms.__all__)
