"""The same bytes as another type of number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._dtypes import numpy_dtype, torch_dtype

__all__ = ["View"]


class View(Operation):
    """The bytes of arrays or tensors read as another type; nothing is copied.

    A type of another size changes the last dimension, as in NumPy and torch.

    Args:
        target_dtype: a NumPy or torch dtype.

    Raises:
        PipelineError: when the last dimension's bytes are no multiple of the new type's size.
    """

    def __init__(self, target_dtype: np.dtype | torch.dtype | type | str) -> None:
        super().__init__()
        self.target_dtype = target_dtype
        self._on_arrays = False

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if self._on_arrays:
            dtype = numpy_dtype(self.target_dtype)
            if dtype == np.float16:
                raise PipelineError("View cannot make float16 arrays (numba has none): put it after ToTensor()")
            before, after = previous_state.dtype.itemsize, dtype.itemsize
        else:
            dtype = torch_dtype(self.target_dtype)
            before, after = (
                torch.empty(0, dtype=previous_state.dtype).element_size(),
                torch.empty(0, dtype=dtype).element_size(),
            )
        *others, last = previous_state.shape or (1,)
        if (last * before) % after:
            raise PipelineError(
                f"View: {last} values of {previous_state.dtype} a row are {last * before} bytes, no multiple of the "
                f"{after} bytes of {dtype}"
            )
        return replace(previous_state, dtype=dtype, shape=(*others, last * before // after)), None

    def generate_code(self) -> Callable:
        # A constant of its kind: numba knows NumPy's dtypes, torch its own.
        dtype = numpy_dtype(self.target_dtype) if self._on_arrays else torch_dtype(self.target_dtype)

        def view(values, _):
            return values.view(dtype)

        return view
