"""Transforms of shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_tensor

__all__ = ["Squeeze"]


class Squeeze(Operation):
    """Drop dimensions of size 1 from tensors; never the batch's.

    Args:
        dims: the dimensions (the batch is 0); none given: all of size 1.
    """

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def _dropped(self, ndim: int, shape) -> list[int]:
        wanted = range(1, ndim) if not self.dims else (dim % ndim for dim in self.dims)
        return [dim for dim in wanted if dim != 0 and shape[dim] == 1]

    def generate_code(self) -> Callable:
        def squeeze(tensor, _):
            dropped = self._dropped(tensor.ndim, tensor.shape)
            return tensor.reshape([extent for dim, extent in enumerate(tensor.shape) if dim not in dropped])

        return squeeze

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_tensor(self, previous_state)
        shape = (None, *previous_state.shape)
        dropped = self._dropped(len(shape), shape)
        return replace(previous_state, shape=tuple(shape[dim] for dim in range(1, len(shape)) if dim not in dropped)), None
