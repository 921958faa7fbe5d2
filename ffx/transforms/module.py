"""A torch module as an operation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State

__all__ = ["ModuleWrapper"]


class ModuleWrapper(Operation):
    """Calls a torch module on each batch; the loader wraps modules by itself.

    What the module draws comes from torch's own generator. Shape and type of its result are taken to
    be those of its input, as in FFCV.

    Args:
        module: called with the whole batch as one tensor.

    Raises:
        PipelineError: for arrays, and for something that cannot be called.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        if not callable(module):
            raise PipelineError(
                f"ModuleWrapper expected a torch module, found {module!r} of type {type(module).__name__}"
            )
        self.module = module

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        if previous_state.jit_mode:
            raise PipelineError(
                f"the torch module {type(self.module).__name__} works on tensors, found an array of "
                f"{previous_state.dtype}: put ToTensor() before it"
            )
        return previous_state, None

    def generate_code(self) -> Callable:
        return lambda tensor, _: self.module(tensor)
