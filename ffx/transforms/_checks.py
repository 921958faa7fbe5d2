"""What transforms ask of the state before them, with messages that say what to change."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import PipelineError
from ..pipeline.state import State

__all__ = ["need_array", "need_image", "need_probability", "need_tensor", "torch_dtype_of"]


def need_array(operation: object, state: State) -> None:
    """Raise `PipelineError` unless arrays flow."""
    if not state.jit_mode:
        raise PipelineError(f"{type(operation).__name__} works on arrays, not tensors: put it before ToTensor()")


def need_tensor(operation: object, state: State) -> None:
    """Raise `PipelineError` unless tensors flow."""
    if state.jit_mode:
        raise PipelineError(f"{type(operation).__name__} works on tensors, not arrays: put ToTensor() before it")


def need_image(operation: object, state: State) -> tuple[int, int, int]:
    """Height, width and channels of an array of images; `PipelineError` for anything else."""
    need_array(operation, state)
    if state.shape is None or len(state.shape) != 3:
        raise PipelineError(
            f"{type(operation).__name__} works on images of shape (height, width, channels), found {state.shape}"
        )
    height, width, channels = (int(extent) for extent in state.shape)
    return height, width, channels


def need_probability(operation: object, name: str, value: float) -> float:
    """A number from 0 to 1; `PipelineError` otherwise."""
    if not 0.0 <= value <= 1.0:
        raise PipelineError(f"{type(operation).__name__}: expected {name} from 0 to 1, found {value!r}")
    return float(value)


def torch_dtype_of(dtype: np.dtype | torch.dtype | type) -> torch.dtype:
    """The torch dtype for a NumPy or torch one; `PipelineError` where torch has none."""
    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        return torch.from_numpy(np.empty(0, dtype=dtype)).dtype
    except TypeError as error:
        raise PipelineError(f"torch has no tensors of dtype {np.dtype(dtype)}: convert the array first") from error
