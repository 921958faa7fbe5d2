"""What operations expect of the operation before them, and how they say so when it is not so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import PipelineError
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._dtypes import holds_half

__all__ = [
    "check_probability",
    "expect_array",
    "expect_image",
    "expect_numbers",
    "expect_tensor",
    "expect_uint8",
    "fill_values",
    "sample_ids",
]


def _name(operation: Operation) -> str:
    return type(operation).__name__


def expect_array(operation: Operation, state: State) -> None:
    """Raise unless arrays flow here."""
    if not state.jit_mode:
        raise PipelineError(
            f"{_name(operation)} works on arrays, found a tensor of {state.dtype} on {state.device}: "
            "put it before ToTensor() (and before any torch module)"
        )


def expect_tensor(operation: Operation, state: State) -> None:
    """Raise unless tensors flow here."""
    if state.jit_mode:
        raise PipelineError(
            f"{_name(operation)} works on tensors, found an array of {state.dtype}: put ToTensor() before it"
        )


def expect_image(operation: Operation, state: State, channels: int | None = None) -> tuple[int, int, int]:
    """`(height, width, channels)` of the image that flows here; raise unless there is one."""
    shape = tuple(state.shape or ())
    if len(shape) != 3 or (channels is not None and shape[2] != channels):
        wanted = "channels" if channels is None else channels
        raise PipelineError(
            f"{_name(operation)} expected images of shape (height, width, {wanted}), found samples of shape {shape}: "
            "put it after an image decoder and before ToTorchImage()"
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


def expect_numbers(operation: Operation, state: State, instead: str = "before NormalizeImage") -> None:
    """Raise where int16 flows that is the bits of float16: calculating with it would give anything."""
    if holds_half(state.dtype):
        raise PipelineError(
            f"{_name(operation)} calculates, but the float16 of NormalizeImage flows through arrays as its bits "
            f"(numba has no float16): put {_name(operation)} {instead}"
        )


def expect_uint8(operation: Operation, state: State) -> None:
    """Raise unless the values are uint8."""
    if str(state.dtype) not in ("uint8", "torch.uint8"):
        raise PipelineError(
            f"{_name(operation)} expected uint8 values from 0 to 255, found {state.dtype}: put it before "
            "NormalizeImage and Convert"
        )


def check_probability(operation: Operation, name: str, value: float) -> float:
    """`value` as a float from 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise PipelineError(f"{_name(operation)}: expected {name} from 0 to 1, found {value!r}")
    return float(value)


def fill_values(operation: Operation, fill: Sequence[float] | np.ndarray, channels: int, dtype: np.dtype) -> np.ndarray:
    """One value a channel, of the image's dtype (of float16 the bits, where those flow)."""
    given = np.asarray(fill)
    if given.ndim > 1 or given.size not in (1, channels):
        raise PipelineError(f"{_name(operation)}: expected fill to have {channels} values, found {fill!r}")
    values = np.ascontiguousarray(np.broadcast_to(given.reshape(-1), (channels,)))
    if holds_half(dtype):
        return values.astype(np.float16).view(np.int16)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise PipelineError(
                f"{_name(operation)}: expected fill from {limits.min} to {limits.max} ({dtype}), found {fill!r}"
            )
    return values.astype(dtype)


def sample_ids(operation: Operation, indices: Sequence[int]) -> np.ndarray:
    """Samples of a file, sorted and each once: `uint64[count]`."""
    given = np.asarray(indices)
    if given.size == 0:
        return np.zeros(0, dtype=np.uint64)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer) or given.min() < 0:
        raise PipelineError(
            f"{_name(operation)}: expected indices as a list of sample numbers, found {given.dtype} values of shape "
            f"{given.shape}{' with negative ones' if given.dtype.kind in 'if' and given.min() < 0 else ''}"
        )
    return np.unique(given).astype(np.uint64)
