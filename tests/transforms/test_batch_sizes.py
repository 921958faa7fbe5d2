"""A result depends on its sample alone: batches of one, short batches with memory for more, parts of a batch."""

import numpy as np
import pytest
import torch

from ffx.pipeline.allocation_query import allocate
from ffx.pipeline.compiler import Compiler
from ffx.transforms import (
    AlternatingHorizontalFlip,
    Convert,
    Cutout,
    ImageMixup,
    LabelMixup,
    MixupToOneHot,
    NormalizeImage,
    Poison,
    RandomBrightness,
    RandomContrast,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSaturation,
    RandomTranslate,
    ReplaceLabel,
    Squeeze,
    ToTorchImage,
)
from tests.transforms.helpers import array_state, generated, make_streams, native, random_images, tensor_state

IMAGES = random_images(6, 9, 10)
LABELS = np.arange(6)[:, None]


def named(*cases):
    """Cases that are told apart by their operation's name."""
    return [pytest.param(operation, values, id=type(operation).__name__) for operation, values in cases]


IDS = np.array([4, 7, 2**33, 0, 9, 4], dtype=np.uint64)
BY_SAMPLE = named(
    (Convert(np.float32), IMAGES),
    (Cutout(4, fill=(1, 2, 3)), IMAGES),
    (NormalizeImage([1.0] * 3, [2.0] * 3, np.float32), IMAGES),
    (Poison(np.full((9, 10, 3), 200), np.full((9, 10), 0.5), [7, 0]), IMAGES),
    (RandomBrightness(0.9), IMAGES),
    (RandomContrast(0.9), IMAGES),
    (RandomHorizontalFlip(), IMAGES),
    (AlternatingHorizontalFlip(), IMAGES),
    (RandomResizedCrop((0.2, 1.0), (0.7, 1.4), 5), IMAGES),
    (RandomSaturation(0.9), IMAGES),
    (RandomTranslate(3), IMAGES),
    (ReplaceLabel([7, 0], 77), LABELS),
)
OF_BATCHES = named((ImageMixup(0.5, False), IMAGES), (LabelMixup(0.5, False), LABELS))


@pytest.mark.parametrize("operation, values", BY_SAMPLE)
def test_batches_of_one_are_the_rows_of_a_batch(operation, values):
    assert operation.per_sample
    whole = generated(operation, values, IDS, compiled=False)
    ones = [
        generated(operation, values[row : row + 1], IDS[row : row + 1], compiled=False) for row in range(len(values))
    ]
    np.testing.assert_array_equal(np.concatenate(ones), whole)


@pytest.mark.parametrize("operation, values", BY_SAMPLE[1:])
def test_native_kernels_of_batches_of_one(operation, values):
    if operation.native_step(array_state(values)) is None:
        pytest.skip("no native step")
    whole = native(operation, values, IDS)
    ones = [native(operation, values[row : row + 1], IDS[row : row + 1]) for row in range(len(values))]
    np.testing.assert_array_equal(np.concatenate(ones), whole)


@pytest.mark.parametrize("operation, values", BY_SAMPLE + OF_BATCHES)
def test_memory_for_more_samples_than_there_are(operation, values):
    """FFCV gives the memory of a whole batch to a short one."""
    expected = generated(operation, values, IDS, compiled=False)
    _, query = operation.declare_state_and_memory(array_state(values))
    code = operation.generate_code()
    extra = {"with_indices": IDS, "with_random": make_streams(IDS)}
    arguments = [extra[wish] for wish in extra if getattr(code, wish, False)]
    result = code(values.copy(), allocate(query, 3 * len(values)), *arguments)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("operation, values", BY_SAMPLE + OF_BATCHES)
def test_no_samples(operation, values):
    assert len(generated(operation, values[:0], IDS[:0], compiled=False)) == 0


def test_alone_in_its_batch_a_sample_is_mixed_with_itself():
    image = generated(ImageMixup(0.5, True), IMAGES[:1], IDS[:1], compiled=False)
    np.testing.assert_array_equal(image, IMAGES[:1])
    mixed = generated(LabelMixup(0.5, True), LABELS[3:4], IDS[3:4], compiled=False)
    assert mixed[0, :2].tolist() == [3, 3]
    one_hot = generated(MixupToOneHot(5), torch.from_numpy(mixed))
    torch.testing.assert_close(one_hot, torch.eye(5)[3:4])


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_tensors_of_any_number_of_images(count, channels_last):
    images = torch.from_numpy(IMAGES[:count])
    operation = ToTorchImage(channels_last)
    state, query = operation.declare_state_and_memory(tensor_state(images))
    memory = None if query is None else allocate(query, 6)
    result = operation.generate_code()(images, memory)
    assert tuple(result.shape) == (count, *state.shape)
    np.testing.assert_array_equal(result.numpy(), IMAGES[:count].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("dims", [(), (1,)])
def test_a_batch_of_one_stays_a_batch(dims):
    assert generated(Squeeze(*dims), torch.zeros(1, 1)).shape == (1,)


def test_compiled_code_takes_input_that_may_only_be_read():
    """As a foreign decoder's view of the mapped file would be."""
    for operation, values in ((RandomHorizontalFlip(), IMAGES), (RandomContrast(0.5, 1.0), IMAGES)):
        frozen = values.copy()
        frozen.setflags(write=False)
        state, query = operation.declare_state_and_memory(array_state(values))
        code = Compiler.compile(operation.generate_code())
        result = code(frozen, allocate(query, len(values)), make_streams(IDS))
        np.testing.assert_array_equal(result, generated(operation, values, IDS, compiled=False))
        assert result.shape[1:] == state.shape
