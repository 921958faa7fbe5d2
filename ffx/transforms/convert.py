"""From one type of number to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import expect_numbers
from ._dtypes import numpy_dtype, torch_dtype

__all__ = ["Convert"]


class Convert(Operation):
    """Values as another type of number; works on arrays and on tensors.

    Args:
        target_dtype: a NumPy or torch dtype.

    Raises:
        PipelineError: for a type that arrays (or tensors) cannot have.
    """

    per_sample = True

    def __init__(self, target_dtype: np.dtype | torch.dtype | type | str) -> None:
        super().__init__()
        self.target_dtype = target_dtype
        self._on_arrays = False

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if not self._on_arrays:
            return replace(previous_state, dtype=torch_dtype(self.target_dtype)), None
        expect_numbers(self, previous_state, "after ToTensor()")
        dtype = numpy_dtype(self.target_dtype)
        if dtype == np.float16:
            raise PipelineError("Convert cannot make float16 arrays (numba has none): put it after ToTensor()")
        return replace(previous_state, dtype=dtype), AllocationQuery(previous_state.shape, dtype)

    def generate_code(self) -> Callable:
        if not self._on_arrays:
            dtype = torch_dtype(self.target_dtype)
            return lambda tensor, _: tensor.to(dtype)

        def convert(array, memory):
            for position in range(len(array)):
                memory[position] = array[position]
            return memory[: len(array)]

        convert.is_parallel = True
        return convert
