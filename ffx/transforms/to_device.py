"""From one device to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..pipeline.allocation_query import Allocation
from ..pipeline.device import resolve_device
from ..pipeline.operation import Operation, PixelStep
from ..pipeline.state import State
from ._checks import expect_tensor

__all__ = ["ToDevice"]


class ToDevice(Operation):
    """Copies tensors to a device. The memory layout is kept, channels last too.

    Args:
        device: a `torch.device`, a name like `"cuda:0"`, or a GPU's number. `"cuda"` is the GPU that is
            current in the thread that starts the epoch.
        non_blocking: let the copy overlap with computation; the loader waits where it must.

    Raises:
        PipelineError: for an unknown device, a GPU that torch does not see, or an array.
    """

    def __init__(self, device: torch.device | str | int, non_blocking: bool = True) -> None:
        super().__init__()
        self.device = device
        self.non_blocking = non_blocking
        self._resolved: torch.device | None = None

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_tensor(self, previous_state)
        self._resolved = resolve_device(self.device, "ToDevice", "use ToDevice('cpu'), or leave ToDevice out")
        return replace(previous_state, device=self._resolved), None

    def pixel_step(self, previous_state: State) -> PixelStep | None:
        return PixelStep() if self._resolved == previous_state.device else None

    def generate_code(self) -> Callable:
        # Asked for at each call: another epoch may have another device.
        def to_device(tensor, _):
            # Whoever reads host memory does not wait for a stream, so the copy to it must be complete.
            on_gpu = self._resolved is not None and self._resolved.type != "cpu"
            return tensor.to(self._resolved, non_blocking=self.non_blocking and on_gpu)

        return to_device
