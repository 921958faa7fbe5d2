"""From height, width, channels to channels, height, width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..errors import PipelineError
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation, PixelStep
from ..pipeline.state import State
from ._checks import expect_tensor

__all__ = ["ToTorchImage"]


class ToTorchImage(Operation):
    """Images as torch's models take them: `(batch, channels, height, width)`.

    Args:
        channels_last: only turn the dimensions round, so that the memory keeps the order height, width,
            channels (`torch.channels_last`); False copies to torch's default order.
        convert_back_int16: read int16 as the bits of float16, which FFCV's pipelines rely on.

    Raises:
        PipelineError: for arrays, and for anything but images.
    """

    def __init__(self, channels_last: bool = True, convert_back_int16: bool = True) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.convert_back_int16 = convert_back_int16

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_tensor(self, previous_state)
        if previous_state.shape is None or len(previous_state.shape) != 3:
            raise PipelineError(
                f"ToTorchImage expected images of shape (height, width, channels), found samples of shape "
                f"{previous_state.shape}"
            )
        height, width, channels = previous_state.shape
        dtype = previous_state.dtype
        if dtype is torch.int16 and self.convert_back_int16:
            dtype = torch.float16
        shape = (channels, height, width)
        state = replace(previous_state, shape=shape, dtype=dtype)
        return state, None if self.channels_last else AllocationQuery(shape, dtype, previous_state.device)

    def pixel_step(self, previous_state: State) -> PixelStep | None:
        # Not a second time, nor where bits are read as another type.
        only_seen_so = self.channels_last and previous_state.shape[2] == 3 and previous_state.dtype is not torch.int16
        return PixelStep(channels_first=True) if only_seen_so else None

    def generate_code(self) -> Callable:
        channels_last, convert_back = self.channels_last, self.convert_back_int16

        def to_torch_image(images, memory):
            if convert_back and images.dtype is torch.int16:
                images = images.view(torch.float16)
            images = images.permute(0, 3, 1, 2)
            if channels_last:
                return images.contiguous(memory_format=torch.channels_last)
            if memory is None or memory.shape[1:] != images.shape[1:] or memory.dtype is not images.dtype:
                # A torch module before this may give other shapes than it was given.
                return images.contiguous()
            return memory[: len(images)].copy_(images)

        return to_torch_image
