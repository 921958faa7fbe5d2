"""float16 images flow through arrays as their bits: they may be moved, but nothing may calculate with them."""

import numpy as np
import pytest

from ffx.errors import PipelineError
from ffx.transforms import (
    Convert,
    Cutout,
    ImageMixup,
    NormalizeImage,
    Poison,
    RandomHorizontalFlip,
    RandomTranslate,
    ToTensor,
    View,
)
from tests.transforms.helpers import array_state, generated, random_images, tensor_state

IMAGES = random_images(12)
VALUES = ((IMAGES - 100.0) / 50.0).astype(np.float16)


def half_state():
    """State of images that `NormalizeImage` has made float16."""
    state, _ = NormalizeImage([100.0] * 3, [50.0] * 3, np.float16).declare_state_and_memory(array_state(IMAGES))
    return state


def moved(operation) -> np.ndarray:
    """What an operation makes of the float16 images, as float16."""
    state, memory = operation.declare_state_and_memory(half_state())
    tensor_state_after, _ = ToTensor().declare_state_and_memory(state)
    assert str(tensor_state_after.dtype) == "torch.float16"
    plain = array_state(VALUES.view(np.int16))
    assert (state.shape, memory.dtype) == (plain.shape, np.int16)
    # The helper declares by the array alone, which has no note of what it holds.
    operation.declare_state_and_memory = lambda _: (state, memory)
    return generated(operation, VALUES.view(np.int16)).view(np.float16)


def test_flips_move_values():
    np.testing.assert_array_equal(moved(RandomHorizontalFlip(1.0)), VALUES[:, :, ::-1])


def test_a_square_is_filled_with_the_numbers_that_were_given():
    result = moved(Cutout(3, fill=(1.5, -2.0, 0.25)))
    filled = (result == np.array([1.5, -2.0, 0.25], np.float16)).all(axis=-1)
    assert filled.sum(axis=(1, 2)).tolist() == [9] * 12
    np.testing.assert_array_equal(result[~filled], VALUES[~filled])


def test_what_comes_into_view_has_the_numbers_that_were_given():
    result = moved(RandomTranslate(30, fill=(1.5, -2.0, 0.25)))
    outside = (result == np.array([1.5, -2.0, 0.25], np.float16)).all(axis=-1)
    assert outside.any() and np.isin(result[~outside], VALUES).all()


@pytest.mark.parametrize(
    "operation, place",
    [
        (ImageMixup(0.4, True), "before NormalizeImage"),
        (Poison(np.zeros((7, 11, 3)), 0.5, [1]), "before NormalizeImage"),
        (Convert(np.float32), r"after ToTensor\(\)"),
    ],
    ids=["ImageMixup", "Poison", "Convert"],
)
def test_whatever_calculates_says_where_it_belongs(operation, place):
    name = type(operation).__name__
    with pytest.raises(PipelineError, match=rf"{name} calculates, but the float16 .* put {name} {place}"):
        operation.declare_state_and_memory(half_state())


@pytest.mark.parametrize("operation", [Convert(np.float16), View(np.float16)])
def test_arrays_cannot_become_float16(operation):
    with pytest.raises(PipelineError, match=rf"{type(operation).__name__} cannot make float16 .*after ToTensor\(\)"):
        operation.declare_state_and_memory(array_state(IMAGES.astype(np.int16)))


@pytest.mark.parametrize("operation", [Convert, View])
def test_tensors_can(operation):
    tensor = ToTensor().generate_code()(VALUES.view(np.int16), None)
    result = generated(operation(np.float16), tensor)
    expected = VALUES if operation is View else VALUES.view(np.int16).astype(np.float16)
    np.testing.assert_array_equal(result.numpy(), expected)
    assert operation(np.float16).declare_state_and_memory(tensor_state(tensor))[0].dtype == result.dtype
