"""From arrays to tensors, from the CPU to a device, from NumPy's layout to torch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_array, need_tensor, torch_dtype_of

__all__ = ["Convert", "ToDevice", "ToTensor", "ToTorchImage", "View"]


class ToTensor(Operation):
    """An array as a tensor over the same memory."""

    def generate_code(self) -> Callable:
        def to_tensor(array, _):
            return torch.from_numpy(array)

        return to_tensor

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_array(self, previous_state)
        return replace(previous_state, jit_mode=False, dtype=torch_dtype_of(previous_state.dtype)), None


class ToDevice(Operation):
    """Copy tensors to a device, on the loader's copy stream where that is a GPU.

    Args:
        device: a `torch.device`, a name such as `"cuda:1"`, or a GPU's number.
        non_blocking: let the copy go on while the next batch is made (memory is page-locked then).
    """

    def __init__(self, device: torch.device | str | int, non_blocking: bool = True) -> None:
        super().__init__()
        self.device = torch.device(device)
        self.non_blocking = non_blocking

    def generate_code(self) -> Callable:
        def to_device(tensor, _):
            return tensor.to(self.device, non_blocking=self.non_blocking)

        return to_device

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_tensor(self, previous_state)
        return replace(previous_state, device=self.device), None


class ToTorchImage(Operation):
    """Images `(batch, height, width, channels)` as `(batch, channels, height, width)`.

    Args:
        channels_last: keep the memory as it is, which is torch's channels-last format; False copies
            into torch's contiguous format.
        convert_back_int16: take int16 for the bits of float16, as which `NormalizeImage` passes float16
            arrays through compiled code.
    """

    def __init__(self, channels_last: bool = True, convert_back_int16: bool = True) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.convert_int16 = convert_back_int16
        self.enable_int16conv = False

    def generate_code(self) -> Callable:
        def to_torch_image(images, memory):
            if self.enable_int16conv:
                images = images.view(torch.float16)
            images = images.permute(0, 3, 1, 2)
            if self.channels_last:
                return images
            memory = memory[: images.shape[0]]
            memory.copy_(images)
            return memory

        return to_torch_image

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_tensor(self, previous_state)
        if previous_state.shape is None or len(previous_state.shape) != 3:
            raise PipelineError(f"ToTorchImage: expected (height, width, channels), found {previous_state.shape}")
        height, width, channels = previous_state.shape
        self.enable_int16conv = self.convert_int16 and previous_state.dtype == torch.int16
        dtype = torch.float16 if self.enable_int16conv else previous_state.dtype
        shape = (channels, height, width)
        query = None if self.channels_last else AllocationQuery(shape, dtype, previous_state.device)
        return replace(previous_state, shape=shape, dtype=dtype), query


class Convert(Operation):
    """Values in another dtype.

    Args:
        target_dtype: a torch dtype for tensors, a NumPy dtype for arrays (either is translated).
    """

    def __init__(self, target_dtype: torch.dtype | np.dtype | type) -> None:
        super().__init__()
        self.target_dtype = target_dtype
        self._on_arrays = False

    def generate_code(self) -> Callable:
        if self._on_arrays:

            def convert_array(array, memory):
                memory[:] = array
                return memory

            return convert_array
        dtype = torch_dtype_of(self.target_dtype)

        def convert(tensor, _):
            return tensor.to(dtype)

        return convert

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if not self._on_arrays:
            return replace(previous_state, dtype=torch_dtype_of(self.target_dtype)), None
        dtype = _numpy_dtype(self.target_dtype)
        return replace(previous_state, dtype=dtype), AllocationQuery(previous_state.shape, dtype)


class View(Operation):
    """The same bytes in another dtype of the same size.

    Args:
        target_dtype: a NumPy or torch dtype.
    """

    def __init__(self, target_dtype: torch.dtype | np.dtype | type) -> None:
        super().__init__()
        self.target_dtype = target_dtype
        self._on_arrays = False

    def generate_code(self) -> Callable:
        dtype = _numpy_dtype(self.target_dtype) if self._on_arrays else torch_dtype_of(self.target_dtype)

        def view(value, _):
            return value.view(dtype)

        return view

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        dtype = _numpy_dtype(self.target_dtype) if self._on_arrays else torch_dtype_of(self.target_dtype)
        if dtype.itemsize != previous_state.dtype.itemsize:
            raise PipelineError(f"View: expected a dtype of {previous_state.dtype.itemsize} bytes, found {dtype}")
        return replace(previous_state, dtype=dtype), None


def _numpy_dtype(dtype: torch.dtype | np.dtype | type) -> np.dtype:
    if not isinstance(dtype, torch.dtype):
        return np.dtype(dtype)
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError as error:
        raise PipelineError(f"NumPy has no dtype for {dtype}: put ToTensor() before this operation") from error
