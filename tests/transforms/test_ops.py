"""Types, devices, layouts and shapes: against NumPy's and torch's own."""

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.transforms import Convert, ModuleWrapper, Squeeze, ToDevice, ToTensor, ToTorchImage, View
from tests.transforms.helpers import all_forms, array_state, generated, random_images, tensor_state


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "?"])
def test_to_tensor_shares_memory(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    state, memory = ToTensor().declare_state_and_memory(array_state(array))
    tensor = generated(ToTensor(), array)
    assert memory is None
    assert (state.jit_mode, state.dtype) == (False, tensor.dtype)
    assert tensor.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.skipif(not hasattr(torch, "uint16"), reason="this torch has no uint16")
def test_to_tensor_of_unsigned_integers():
    array = np.array([[1, 65535]], dtype=np.uint16)
    assert generated(ToTensor(), array).dtype is torch.uint16


def test_to_tensor_of_a_mirrored_view_copies():
    array = np.arange(12).reshape(3, 4)[:, ::-1]
    np.testing.assert_array_equal(generated(ToTensor(), array).numpy(), array)


def test_to_tensor_leaves_tensors_as_they_are():
    tensor = torch.zeros(2, 3)
    state = tensor_state(tensor)
    assert ToTensor().declare_state_and_memory(state) == (state, None)
    assert generated(ToTensor(), tensor) is tensor


def test_to_tensor_refuses_records():
    with pytest.raises(PipelineError, match="type of number that torch has"):
        ToTensor().declare_state_and_memory(array_state(np.zeros((2, 1), dtype=[("a", "i4"), ("b", "f4")])))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_to_device_on_the_cpu_passes_tensors_on(device):
    images = torch.from_numpy(random_images(2)).permute(0, 3, 1, 2)
    state, memory = ToDevice(device).declare_state_and_memory(tensor_state(images))
    assert (state.device, memory) == (torch.device("cpu"), None)
    result = generated(ToDevice(device), images)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, images)


def test_to_device_of_another_device_declares_it():
    state, _ = ToDevice("meta").declare_state_and_memory(tensor_state(torch.zeros(2, 3)))
    assert state.device == torch.device("meta")
    assert generated(ToDevice("meta"), torch.zeros(2, 3)).device == torch.device("meta")


def test_to_device_refuses_arrays_and_unknown_devices():
    with pytest.raises(PipelineError, match=r"put ToTensor\(\) before it"):
        ToDevice("cpu").declare_state_and_memory(array_state(random_images(1)))
    with pytest.raises(PipelineError, match="expected a device"):
        ToDevice("no such device").declare_state_and_memory(tensor_state(torch.zeros(2, 3)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", 0])
def test_to_device_says_that_there_is_no_gpu(device):
    with pytest.raises(PipelineError, match="sees no GPU"):
        ToDevice(device).declare_state_and_memory(tensor_state(torch.zeros(2, 3)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", 0, torch.device("cuda")])
def test_to_device_copies_to_a_gpu_in_the_same_layout(device):
    images = torch.from_numpy(random_images(2)).permute(0, 3, 1, 2)
    state, _ = ToDevice(device).declare_state_and_memory(tensor_state(images))
    result = generated(ToDevice(device), images)
    assert state.device == result.device == torch.device("cuda", torch.cuda.current_device())
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result.cpu(), images)


@pytest.mark.parametrize("channels_last", [True, False])
def test_to_torch_image_turns_dimensions_round(channels_last):
    images = random_images(3)
    tensor = torch.from_numpy(images)
    operation = ToTorchImage(channels_last=channels_last)
    state, memory = operation.declare_state_and_memory(tensor_state(tensor))
    result = generated(operation, tensor)
    assert state.shape == tuple(result.shape[1:]) == (3, 7, 11)
    assert (memory is None) == channels_last
    np.testing.assert_array_equal(result.numpy(), images.transpose(0, 3, 1, 2))
    if channels_last:
        assert result.data_ptr() == tensor.data_ptr()
        assert result.is_contiguous(memory_format=torch.channels_last)
    else:
        assert result.is_contiguous()


@pytest.mark.parametrize("convert_back", [True, False])
def test_to_torch_image_reads_int16_as_float16(convert_back):
    halves = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float16)
    tensor = torch.from_numpy(halves.view(np.int16))
    for channels_last in (True, False):
        operation = ToTorchImage(channels_last, convert_back_int16=convert_back)
        state, _ = operation.declare_state_and_memory(tensor_state(tensor))
        result = generated(operation, tensor)
        assert state.dtype is result.dtype is (torch.float16 if convert_back else torch.int16)
        expected = halves if convert_back else halves.view(np.int16)
        np.testing.assert_array_equal(result.numpy(), expected.transpose(0, 3, 1, 2))


def test_to_torch_image_copes_with_a_module_that_changes_the_size():
    operation = ToTorchImage(channels_last=False)
    operation.declare_state_and_memory(tensor_state(torch.zeros(2, 7, 11, 3)))
    smaller = torch.rand(2, 3, 4, 3)
    result = operation.generate_code()(smaller, torch.empty(2, 3, 7, 11))
    assert torch.equal(result, smaller.permute(0, 3, 1, 2))


def test_to_torch_image_refuses_arrays_and_vectors():
    with pytest.raises(PipelineError, match=r"put ToTensor\(\) before it"):
        ToTorchImage().declare_state_and_memory(array_state(random_images(1)))
    with pytest.raises(PipelineError, match="images of shape"):
        ToTorchImage().declare_state_and_memory(tensor_state(torch.zeros(2, 5)))


@pytest.mark.parametrize("target", [np.float32, "int64", torch.float32])
def test_convert_arrays(target):
    values = np.array([[1, 200], [3, 255]], dtype=np.uint8)
    state, _ = Convert(target).declare_state_and_memory(array_state(values))
    result = generated(Convert(target), values, compiled=False)
    assert result.dtype == state.dtype == np.dtype(str(target)[6:] if isinstance(target, torch.dtype) else target)
    np.testing.assert_array_equal(result, values)


def test_convert_compiled_equals_numpy():
    values = np.array([[1.75, -2.5, 300.0]], dtype=np.float64)
    np.testing.assert_array_equal(all_forms(Convert(np.int32), values), values.astype(np.int32))


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16, np.float32, "torch.DoubleTensor"])
def test_convert_tensors(target):
    values = torch.tensor([[1, 2], [3, 255]], dtype=torch.uint8)
    state, memory = Convert(target).declare_state_and_memory(tensor_state(values))
    result = generated(Convert(target), values)
    assert memory is None
    assert result.dtype is state.dtype
    assert torch.equal(result.double(), values.double())


def test_convert_refuses_types_that_arrays_cannot_have():
    with pytest.raises(PipelineError, match="after ToTensor"):
        Convert(np.float16).declare_state_and_memory(array_state(random_images(1)))
    with pytest.raises(PipelineError, match="after ToTensor"):
        Convert(torch.bfloat16).declare_state_and_memory(array_state(random_images(1)))


def test_view_reads_the_same_bytes():
    values = np.arange(16, dtype=np.uint8).reshape(2, 8)
    for target in (np.int8, np.uint16, np.dtype("f4")):
        state, memory = View(target).declare_state_and_memory(array_state(values))
        result = generated(View(target), values, compiled=target is np.uint16)
        expected = values.view(target)
        assert memory is None
        assert (state.shape, state.dtype, state.jit_mode) == (expected.shape[1:], expected.dtype, True)
        np.testing.assert_array_equal(result, expected)


def test_view_of_tensors():
    values = torch.arange(16, dtype=torch.uint8).reshape(2, 8)
    for target in (torch.int8, torch.int32, np.float16):
        state, _ = View(target).declare_state_and_memory(tensor_state(values))
        result = generated(View(target), values)
        assert (state.shape, state.dtype) == (tuple(result.shape[1:]), result.dtype)
        np.testing.assert_array_equal(result.numpy().view(np.uint8), values.numpy())


def test_view_refuses_sizes_that_do_not_fit():
    with pytest.raises(PipelineError, match="no multiple"):
        View(np.float32).declare_state_and_memory(array_state(np.zeros((2, 6), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("dims", "shape", "expected"),
    [
        ((), (4, 1), (4,)),
        ((), (1, 1), (1,)),
        ((), (1, 1, 5, 1), (1, 5)),
        ((1,), (4, 1), (4,)),
        ((1,), (1, 1, 1), (1, 1)),
        ((-1,), (1, 5, 1), (1, 5)),
        ((0,), (1, 5), (1, 5)),
        ((1, 3), (2, 1, 7, 1), (2, 7)),
        ((1,), (4, 3), (4, 3)),
    ],
)
def test_squeeze_keeps_the_batch(dims, shape, expected):
    values = torch.rand(shape)
    state, _ = Squeeze(*dims).declare_state_and_memory(tensor_state(values))
    result = generated(Squeeze(*dims), values)
    assert tuple(result.shape) == expected
    assert state.shape == expected[1:]
    assert values.shape == shape
    assert torch.equal(result.flatten(), values.flatten())


def test_squeeze_refuses_dimensions_that_there_are_not():
    with pytest.raises(PipelineError, match="2 dimensions"):
        Squeeze(2).declare_state_and_memory(tensor_state(torch.zeros(3, 1)))


def test_module_is_called_with_the_batch():
    module = torch.nn.Linear(4, 4)
    values = torch.rand(3, 4)
    assert torch.equal(generated(ModuleWrapper(module), values), module(values))


def test_module_refuses_arrays_and_needs_to_be_called():
    with pytest.raises(PipelineError, match=r"Linear works on tensors.*put ToTensor\(\) before it"):
        ModuleWrapper(torch.nn.Linear(1, 1)).declare_state_and_memory(array_state(np.zeros((2, 1))))
    with pytest.raises(PipelineError, match="expected a torch module"):
        ModuleWrapper("flip")
