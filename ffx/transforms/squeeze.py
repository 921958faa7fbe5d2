"""Leave out dimensions of size one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import expect_tensor

__all__ = ["Squeeze"]


class Squeeze(Operation):
    """Leaves out dimensions of size one, but never the batch's: a batch of one sample stays a batch.

    Works on tensors.

    Args:
        *dims: dimensions to leave out, counted with the batch as 0 (which is kept); those of another
            size stay. None: all of size one.

    Raises:
        PipelineError: for arrays, or a dimension that there is not.
    """

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_tensor(self, previous_state)
        batch = (-1, *(previous_state.shape or ()))
        for dim in self.dims:
            if not -len(batch) <= dim < len(batch):
                raise PipelineError(
                    f"Squeeze({dim}): the batch has {len(batch)} dimensions, its samples are of shape {batch[1:]}"
                )
        return replace(previous_state, shape=self._kept(batch)[1:]), None

    def _kept(self, shape: Sequence[int]) -> tuple[int, ...]:
        asked = {dim % len(shape) for dim in self.dims} if self.dims else set(range(len(shape)))
        return tuple(extent for dim, extent in enumerate(shape) if dim == 0 or dim not in asked or extent != 1)

    def generate_code(self) -> Callable:
        def squeeze(tensor, _):
            return tensor.reshape(self._kept(tensor.shape))

        return squeeze
