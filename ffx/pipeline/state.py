"""What flows between two operations of a pipeline: shape, dtype, device, array or tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import PipelineError

__all__ = ["State", "INITIAL_STATE"]


@dataclass
class State:
    """Type of one sample's value at one point of a pipeline.

    Attributes:
        jit_mode: True while the value is a NumPy array that compiled code works on; False for
            a torch tensor.
        device: where the value lies. Arrays are always on the CPU.
        shape: shape of one sample (without the batch dimension); `None` before the decoder.
        dtype: a NumPy dtype for arrays, a torch dtype for tensors.

    Raises:
        PipelineError: for an array that would lie on a GPU, or have a torch dtype.
    """

    jit_mode: bool
    device: torch.device
    shape: tuple[int, ...] | None
    dtype: np.dtype | torch.dtype

    def __post_init__(self) -> None:
        self.device = torch.device(self.device)
        if self.jit_mode and self.device.type != "cpu":
            raise PipelineError(
                f"expected an array on the CPU, found the device {self.device}: an operation after "
                "ToDevice must return a state with jit_mode=False"
            )
        if self.jit_mode and isinstance(self.dtype, torch.dtype):
            raise PipelineError(
                f"expected a NumPy dtype for an array, found {self.dtype}: an operation after "
                "ToTensor must return a state with jit_mode=False"
            )


INITIAL_STATE = State(jit_mode=True, device=torch.device("cpu"), dtype=np.dtype("u1"), shape=None)
