"""Subtract a mean, divide by a deviation, and turn bytes into floats, all at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..kernels import normalize as kernel
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation, PixelStep
from ..pipeline.state import State
from ._checks import expect_image, expect_uint8
from ._dtypes import HALF_BITS, numpy_dtype, torch_dtype

__all__ = ["NormalizeImage"]

_log = logging.getLogger(__name__)


class NormalizeImage(Operation):
    """`(image - mean) / std` as floats, by a table of what each of the 256 values becomes.

    Works on uint8 arrays, where it is compiled, and on uint8 tensors of any device; all give the same
    bits. Tensors of floats are normalised by arithmetic. Tensors keep their memory layout.

    Args:
        mean, std: one number a channel, in units of uint8 values (0 to 255).
        type: NumPy's or torch's dtype of the result. float16 flows as int16 between operations on
            arrays (numba has no float16); `ToTensor` gives it its name back.

    Raises:
        PipelineError: for a mean or deviation that doesn't fit the images or is 0, for values that are
            not uint8, for a type that is not floating.
    """

    per_sample = True

    def __init__(self, mean: Sequence[float], std: Sequence[float], type: np.dtype | torch.dtype) -> None:
        super().__init__()
        self.mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
        self.std = np.atleast_1d(np.asarray(std, dtype=np.float64))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape or not np.all(self.std > 0):
            raise PipelineError(
                f"NormalizeImage: expected one mean and one std above 0 for each channel, found {mean!r} and {std!r}"
            )
        self.type = type
        self.dtype = torch_dtype(type)
        if not self.dtype.is_floating_point:
            raise PipelineError(f"NormalizeImage: expected a floating type such as np.float32, found {type!r}")
        self._on_arrays = True
        self._table: np.ndarray | None = None

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if not self._on_arrays:
            return self._declare_tensor(previous_state)
        expect_image(self, previous_state, len(self.mean))
        expect_uint8(self, previous_state)
        dtype = numpy_dtype(self.type)
        # Its bits as int16 or as a float that numba has; the kernel copies bits anyway.
        flows_as = HALF_BITS if dtype == np.float16 else dtype
        if self._table is None:
            self._table = self.table().numpy().view(flows_as)
        return replace(previous_state, dtype=flows_as), AllocationQuery(previous_state.shape, np.dtype(flows_as.str))

    def _declare_tensor(self, previous_state: State) -> tuple[State, Allocation | None]:
        dtype = torch_dtype(previous_state.dtype)
        if dtype is not torch.uint8 and not dtype.is_floating_point:
            expect_uint8(self, previous_state)
        if _channel_axis(previous_state.shape, len(self.mean)) is None:
            raise PipelineError(
                f"NormalizeImage: mean has {len(self.mean)} numbers, but the images' shape is {previous_state.shape}: "
                "give one number a channel"
            )
        return replace(previous_state, dtype=self.dtype), None

    def table(self) -> torch.Tensor:
        """`[256, channels]` of the result's dtype: what each value becomes."""
        values = (np.arange(256)[:, None] - self.mean[None, :]) / self.std[None, :]
        if self.dtype is torch.bfloat16:
            return torch.from_numpy(values).to(self.dtype)
        # NumPy rounds once on the way from float64 to float16, torch twice.
        return torch.from_numpy(values.astype(numpy_dtype(self.type)))

    def generate_code(self) -> Callable:
        return self._array_code() if self._on_arrays else _TensorCode(self)

    def _array_code(self) -> Callable:
        table, look_up = self._table, kernel.look_up
        channels = len(self.mean)

        def normalize(images, memory):
            for position in range(len(images)):
                pixels = np.ascontiguousarray(images[position]).reshape((-1, channels))
                look_up(pixels, table, memory[position].reshape((-1, channels)))
            return memory[: len(images)]

        normalize.is_parallel = True
        return normalize

    def pixel_step(self, previous_state: State) -> PixelStep | None:
        return PixelStep(table=self.table) if previous_state.dtype is torch.uint8 else None

    def native_step(self, previous_state: State) -> NativeStep | None:
        if not self._on_arrays:
            return None
        height, width, channels = previous_state.shape
        factors = kernel.factors(self.mean, self.std, self._table)
        constants = self._table if factors is None else factors
        words = [0] * kernel.OWN_WORDS
        words[kernel.TABLE], words[kernel.ITEM_BYTES] = constants.ctypes.data, self._table.itemsize
        words[kernel.PIXELS], words[kernel.CHANNELS] = int(height * width), int(channels)
        run = kernel.look_up_images if factors is None else kernel.scale_images
        return NativeStep(run, tuple(words), keep=(constants,))


def _channel_axis(shape: Sequence[int], channels: int) -> int | None:
    """Which dimension of a sample holds the channels: the first, as behind ToTorchImage, or the last."""
    if len(shape) != 3:
        return None
    return next((axis for axis in (0, 2) if shape[axis] == channels), None)


class _TensorCode:
    """Normalises tensors on the device where they are."""

    def __init__(self, operation: NormalizeImage) -> None:
        self._operation = operation
        self._constants: dict[tuple[str, torch.device, int], torch.Tensor] = {}
        self._on_gpu: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def __call__(self, images: torch.Tensor, _) -> torch.Tensor:
        axis = _channel_axis(images.shape[1:], len(self._operation.mean))
        if axis is None:
            raise ValueError(f"expected images with {len(self._operation.mean)} channels, found {tuple(images.shape)}")
        # Pixels one after the other, whatever the order of the dimensions.
        pixels = images.permute(0, 2, 3, 1) if axis == 0 else images
        result = self._look_up(pixels.contiguous()) if pixels.dtype is torch.uint8 else self._calculate(pixels)
        return result.permute(0, 3, 1, 2) if axis == 0 else result

    def _look_up(self, pixels: torch.Tensor) -> torch.Tensor:
        table = self._constant("table", pixels.device)
        if not pixels.is_cuda:
            return look_up_by_index(pixels, table)
        if self._on_gpu is not None:
            return self._on_gpu(pixels, table)
        try:
            from ._normalize_cuda import look_up

            result, self._on_gpu = look_up(pixels, table), look_up
        except Exception as error:  # No triton, no C compiler for its launcher, a GPU that it doesn't know.
            _log.warning("NormalizeImage takes torch's own, slower operations, since triton fails: %r", error)
            result, self._on_gpu = look_up_by_index(pixels, table), look_up_by_index
        return result

    def _calculate(self, pixels: torch.Tensor) -> torch.Tensor:
        precision = torch.promote_types(pixels.dtype, torch.float32)
        mean, std = (self._constant(name, pixels.device).to(precision) for name in ("mean", "std"))
        return ((pixels.to(precision) - mean) / std).to(self._operation.dtype)

    def _constant(self, name: str, device: torch.device) -> torch.Tensor:
        """The table, the means or the deviations on a device, copied there once a stream: nobody waits for it."""
        on_gpu = device.type == "cuda"
        key = (name, device, torch.cuda.current_stream(device).cuda_stream if on_gpu else 0)
        if key not in self._constants:
            operation = self._operation
            value = operation.table() if name == "table" else torch.from_numpy(getattr(operation, name))
            # From page-locked memory, or the copy would wait for whatever the GPU is doing.
            value = value.pin_memory() if on_gpu else value
            self._constants[key] = value.to(device, non_blocking=True)
        return self._constants[key]


def look_up_by_index(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`table[pixels[..., c], c]` by torch's own operations.

    Args:
        pixels: uint8 `[..., channels]`, contiguous.
        table: `[256, channels]` on the same device.
    """
    channels = table.shape[1]
    rows = pixels.to(torch.int32) * channels
    rows += torch.arange(channels, dtype=torch.int32, device=pixels.device)
    return table.view(-1).index_select(0, rows.view(-1)).view(pixels.shape)
