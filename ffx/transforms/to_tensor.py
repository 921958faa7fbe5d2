"""From NumPy to torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation, PixelStep
from ..pipeline.state import State
from ._dtypes import holds_half, torch_dtype

__all__ = ["ToTensor"]


class ToTensor(Operation):
    """The array's memory as a tensor; nothing is copied. A tensor stays as it is: decoders that crop on a
    device give one.

    Raises:
        PipelineError: when torch has no such dtype.
    """

    def __init__(self) -> None:
        super().__init__()
        self._view: torch.dtype | None = None

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        if not previous_state.jit_mode:
            return previous_state, None
        self._view = torch.float16 if holds_half(previous_state.dtype) else None
        return replace(previous_state, jit_mode=False, dtype=self._view or torch_dtype(previous_state.dtype)), None

    def pixel_step(self, previous_state: State) -> PixelStep | None:
        return None if previous_state.jit_mode else PixelStep()

    def generate_code(self) -> Callable:
        view = self._view

        def to_tensor(array, _):
            if isinstance(array, torch.Tensor):
                return array
            if any(stride < 0 for stride in array.strides):
                array = np.ascontiguousarray(array)
            tensor = torch.from_numpy(array)
            return tensor.view(view) if view is not None and tensor.dtype is torch.int16 else tensor

        return to_tensor
