"""NormalizeImage: one table of 256 values a channel, whichever way it is applied."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.kernels.normalize import factors
from ffx.transforms import Convert, NormalizeImage, ToTensor, ToTorchImage
from ffx.transforms.normalize import look_up_by_index
from tests.transforms.helpers import all_forms, array_state, generated, native, random_images, tensor_state

MEAN = np.array([0.485, 0.456, 0.406]) * 255
STD = np.array([0.229, 0.224, 0.225]) * 255


def every_value(channels: int = 3) -> np.ndarray:
    """Images in which each channel takes all 256 values, in another order."""
    values = np.stack([np.roll(np.arange(256), 31 * channel) for channel in range(channels)], axis=-1)
    return values.astype(np.uint8).reshape(2, 8, 16, channels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_value_equals_numpy(dtype):
    images = every_value()
    expected = ((images - MEAN) / STD).astype(dtype)
    result = all_forms(NormalizeImage(MEAN, STD, dtype), images)
    np.testing.assert_array_equal(result.view(dtype), expected)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels(channels):
    mean, std = np.linspace(90, 130, channels), np.linspace(40, 70, channels)
    images = every_value(channels)
    expected = ((images - mean) / std).astype(np.float32)
    np.testing.assert_array_equal(native(NormalizeImage(mean, std, np.float32), images), expected)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
def test_vector_kernel_makes_images_of_any_size(width):
    images = random_images(3, height=1, width=width)
    assert factors(MEAN, STD, ((np.arange(256)[:, None] - MEAN) / STD).astype(np.float32)) is not None
    expected = ((images - MEAN) / STD).astype(np.float32)
    np.testing.assert_array_equal(native(NormalizeImage(MEAN, STD, np.float32), images), expected)


def test_factors_that_miss_the_table_are_not_used():
    table = ((np.arange(256)[:, None] - MEAN) / STD).astype(np.float32)
    table[77, 1] = np.nextafter(table[77, 1], np.float32(10))
    assert factors(MEAN, STD, table) is None


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0] * 3, [255.0] * 3), ([104.0, 117.0, 123.0], [1.0] * 3), ([127.5] * 3, [127.5] * 3), ([125.307], [62.993])],
)
def test_usual_means_are_exact(mean, std):
    images = every_value(len(mean))
    expected = ((images - np.array(mean)) / np.array(std)).astype(np.float32)
    np.testing.assert_array_equal(native(NormalizeImage(mean, std, np.float32), images), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["channels last", "contiguous", "height width channels"])
def test_tensors_equal_the_table_and_keep_their_layout(dtype, layout):
    images = every_value()
    expected = torch.from_numpy((images - MEAN) / STD)
    # NumPy rounds once from float64; for bfloat16 there is only torch.
    expected = expected.to(dtype) if dtype is torch.bfloat16 else expected.numpy().astype(str(dtype)[6:])
    tensor = torch.from_numpy(images)
    if layout != "height width channels":
        tensor = tensor.permute(0, 3, 1, 2)
        tensor = tensor.contiguous() if layout == "contiguous" else tensor
    result = generated(NormalizeImage(MEAN, STD, dtype), tensor)
    assert result.dtype is dtype
    assert result.shape == tensor.shape
    if layout != "contiguous":
        assert result.stride() == tensor.stride()
    back = result if layout == "height width channels" else result.permute(0, 2, 3, 1)
    assert torch.equal(back, torch.as_tensor(expected))


def test_declared_state_is_what_comes_out():
    images = torch.from_numpy(every_value()).permute(0, 3, 1, 2)
    for kind, dtype in ((np.float16, torch.float16), (np.dtype("f4"), torch.float32), ("float64", torch.float64)):
        state, memory = NormalizeImage(MEAN, STD, kind).declare_state_and_memory(tensor_state(images))
        assert (state.dtype, state.jit_mode, memory) == (dtype, False, None)
    state, memory = NormalizeImage(MEAN, STD, np.float32).declare_state_and_memory(array_state(every_value()))
    assert (state.dtype, state.jit_mode, memory.dtype) == (np.float32, True, np.float32)


@pytest.mark.parametrize("to_torch_image", [[], [ToTorchImage()], [ToTorchImage(channels_last=False)]])
def test_float16_arrays_end_as_float16_tensors(to_torch_image):
    images = random_images(3)
    operations = [NormalizeImage(MEAN, STD, np.float16), ToTensor(), *to_torch_image]
    value, state = images, array_state(images)
    for operation in operations:
        state, memory = operation.declare_state_and_memory(state)
        buffer = None
        if memory is not None:
            torch_memory = isinstance(memory.dtype, torch.dtype)
            make = torch.empty if torch_memory else np.empty
            buffer = make((3, *memory.shape), dtype=memory.dtype)
        value = operation.generate_code()(value, buffer)
    assert state.dtype is torch.float16
    assert value.dtype is torch.float16
    value = value.permute(0, 2, 3, 1) if to_torch_image else value
    np.testing.assert_array_equal(value.numpy(), ((images - MEAN) / STD).astype(np.float16))


def test_float16_images_look_like_int16_to_operations_on_arrays():
    state, memory = NormalizeImage(MEAN, STD, np.float16).declare_state_and_memory(array_state(every_value()))
    assert state.dtype == np.int16
    assert memory.dtype == np.int16


def test_tensors_of_floats_are_calculated():
    images = torch.rand(2, 3, 4, 5, dtype=torch.float32) * 255
    result = generated(NormalizeImage(MEAN, STD, np.float32), images)
    expected = (images.double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_one_batch_and_no_batch():
    for count in (0, 1):
        images = random_images(count)
        assert native(NormalizeImage(MEAN, STD, np.float32), images).shape == images.shape
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
        assert generated(NormalizeImage(MEAN, STD, np.float32), tensor).shape == tensor.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0], np.float32), "one mean and one std"),
        (([1.0], [0.0], np.float32), "std above 0"),
        (([1.0], [1.0], np.uint8), "floating type"),
        (([1.0], [1.0], "no such type"), "type of number"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(PipelineError, match=message):
        NormalizeImage(*arguments)


def test_images_that_do_not_fit_are_refused():
    operation = NormalizeImage(MEAN, STD, np.float32)
    with pytest.raises(PipelineError, match=r"\(height, width, 3\)"):
        operation.declare_state_and_memory(array_state(every_value(4)))
    with pytest.raises(PipelineError, match="before NormalizeImage and Convert"):
        operation.declare_state_and_memory(array_state(every_value().astype(np.float32)))
    with pytest.raises(PipelineError, match="one number a channel"):
        operation.declare_state_and_memory(tensor_state(torch.zeros(2, 4, 5, 6, dtype=torch.uint8)))
    with pytest.raises(PipelineError, match="after ToTensor"):
        NormalizeImage(MEAN, STD, torch.bfloat16).declare_state_and_memory(array_state(every_value()))


def test_normalizing_twice_is_refused_on_arrays():
    operation = NormalizeImage(MEAN, STD, np.float32)
    state, _ = operation.declare_state_and_memory(array_state(every_value()))
    with pytest.raises(PipelineError, match="uint8"):
        NormalizeImage(MEAN, STD, np.float32).declare_state_and_memory(state)


def test_tensors_of_other_integers_are_refused():
    images = tensor_state(torch.zeros(2, 3, 4, 5, dtype=torch.uint8))
    integers, _ = Convert(torch.int64).declare_state_and_memory(images)
    with pytest.raises(PipelineError, match="uint8"):
        NormalizeImage(MEAN, STD, np.float32).declare_state_and_memory(integers)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_kernel_equals_torch_in_triton_s_interpreter():
    code = """
import torch
from ffx.transforms._normalize_cuda import launch
from ffx.transforms.normalize import look_up_by_index
for dtype in (torch.float16, torch.float32):
    for shape in ((2, 7, 11, 3), (1, 40, 41, 3), (3, 5, 5, 1), (1, 2, 3, 4)):
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        table = torch.randn(256, shape[-1]).to(dtype)
        target = torch.empty(shape, dtype=dtype)
        launch(pixels, table, target)
        assert torch.equal(target, look_up_by_index(pixels, table)), (dtype, shape)
print("equal")
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "equal", run.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_on_a_gpu_the_bits_are_the_same(dtype):
    images = torch.from_numpy(random_images(5, 33, 47)).permute(0, 3, 1, 2)
    operation = NormalizeImage(MEAN, STD, dtype)
    on_host = generated(operation, images)
    on_gpu = generated(operation, images.cuda())
    assert on_gpu.stride() == on_host.stride()
    assert torch.equal(on_gpu.cpu(), on_host)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_triton_kernel_equals_torch_on_a_gpu():
    look_up = pytest.importorskip("ffx.transforms._normalize_cuda").look_up
    for shape in ((2, 7, 11, 3), (3, 5, 5, 1), (64, 224, 224, 3)):
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
        table = torch.randn(256, shape[-1], device="cuda").half()
        assert torch.equal(look_up(pixels, table), look_up_by_index(pixels, table))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("given", [torch.uint8, torch.float32])
def test_nobody_waits_for_a_gpu(given):
    images = torch.randint(0, 256, (4, 3, 32, 32), device="cuda").to(given, memory_format=torch.channels_last)
    # Triton compiles its kernel at the first call, which may wait.
    generated(NormalizeImage(MEAN, STD, torch.float16), images)
    operation = NormalizeImage(MEAN, STD, torch.float16)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [generated(operation, images), generated(operation, images)]
        other = torch.cuda.Stream()
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            results.append(generated(operation, images))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert all(torch.equal(results[0], result) for result in results[1:])
