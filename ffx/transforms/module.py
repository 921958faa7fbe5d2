"""Torch modules as operations."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_tensor

__all__ = ["ModuleWrapper"]


class ModuleWrapper(Operation):
    """Calls a `torch.nn.Module` on each batch; the loader wraps modules in pipelines by itself.

    Modules run in one thread, in batch order. Random ones draw from torch's own generator.

    Args:
        module: gets and returns a tensor `(batch, …)`.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def generate_code(self) -> Callable:
        def apply_module(tensor, _):
            return self.module(tensor)

        return apply_module

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_tensor(self, previous_state)
        return previous_state, None
