"""Bytes to normalised numbers, on the CPU by a table, on a GPU in one kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..kernels.normalize import normalize_images
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import need_image, torch_dtype_of

__all__ = ["NormalizeImage"]


class NormalizeImage(Operation):
    """`(value - mean) / std` by channel, for uint8 images, in another dtype.

    Takes arrays `(height, width, channels)` before `ToTensor`, or tensors `(channels, height, width)`
    after `ToTorchImage`, on any device; channels-last stays channels-last. A float16 array comes as
    int16 of the same bits, which `ToTorchImage` turns back.

    Args:
        mean, std: by channel, in units of grey levels (0 to 255).
        type: NumPy or torch dtype of the result: float16, float32 or float64; bfloat16 for tensors.
    """

    per_sample = True

    def __init__(self, mean: Sequence[float], std: Sequence[float], type: np.dtype | torch.dtype | type) -> None:
        super().__init__()
        self.mean = np.asarray(mean, dtype=np.float64).reshape(-1)
        self.std = np.asarray(std, dtype=np.float64).reshape(-1)
        if self.mean.shape != self.std.shape or not np.all(self.std > 0):
            raise PipelineError(f"NormalizeImage: expected a positive std for each mean, found {mean!r} and {std!r}")
        self.original_dtype = type
        self.torch_dtype = torch_dtype_of(type)
        if not self.torch_dtype.is_floating_point:
            raise PipelineError(f"NormalizeImage: expected a floating-point type, found {type!r}")
        self._on_arrays = True

    def _table(self) -> np.ndarray:
        """The result for each byte and channel, `dtype[256, channels]`; float16 as int16."""
        if self.torch_dtype is torch.bfloat16:
            raise PipelineError("NormalizeImage: NumPy has no bfloat16: put ToTensor() and ToTorchImage() before it")
        numbers = (np.arange(256)[:, None] - self.mean) / self.std
        table = np.ascontiguousarray(numbers.astype(torch.empty(0, dtype=self.torch_dtype).numpy().dtype))
        return table.view(np.int16) if table.dtype == np.float16 else table

    def generate_code(self) -> Callable:
        return self._code_for_arrays() if self._on_arrays else self._code_for_tensors()

    def _code_for_arrays(self) -> Callable:
        table = self._table()
        channels = table.shape[1]

        def normalize(images, memory):
            for position in range(images.shape[0]):
                source = images[position].reshape(-1)
                target = memory[position].reshape(-1)
                for at in range(source.size):
                    target[at] = table[source[at], at % channels]
            return memory[: images.shape[0]]

        normalize.is_parallel = True
        return normalize

    def _code_for_tensors(self) -> Callable:
        def normalize(images, _):
            if images.is_cuda:
                from ._normalize_cuda import normalize_on_gpu

                return normalize_on_gpu(images, self.mean, self.std, self.torch_dtype)
            return normalize_tensor(images, self.mean, self.std, self.torch_dtype)

        return normalize

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if not self._on_arrays:
            self._check(previous_state.shape[0] if len(previous_state.shape) == 3 else None, previous_state)
            return replace(previous_state, dtype=self.torch_dtype), None
        self._check(need_image(self, previous_state)[2], previous_state)
        dtype = self._table().dtype
        return replace(previous_state, jit_mode=True, dtype=dtype), AllocationQuery(previous_state.shape, dtype)

    def _check(self, channels: int | None, state: State) -> None:
        if channels != len(self.mean) or state.dtype not in (np.dtype("u1"), torch.uint8):
            raise PipelineError(
                f"NormalizeImage: expected uint8 images of {len(self.mean)} channels, found {state.dtype} of shape "
                f"{state.shape}; tensors need ToTorchImage() before it"
            )

    def native_step(self, previous_state: State) -> NativeStep | None:
        if not previous_state.jit_mode:
            return None
        height, width, channels = need_image(self, previous_state)
        table = self._table()
        words = (height * width, channels, table.itemsize, table.ctypes.data)
        return NativeStep(normalize_images, words, keep=(table,))


def normalize_tensor(images: torch.Tensor, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The same with torch's own operations: the reference for every device."""
    scale = torch.tensor(1.0 / std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
    offset = torch.tensor(-mean / std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
    return torch.addcmul(offset, images.to(torch.float32), scale).to(dtype)
