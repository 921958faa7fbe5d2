"""Random shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_image

__all__ = ["RandomTranslate"]


class RandomTranslate(Operation):
    """Shift each image by up to `padding` pixels both ways; what comes in from outside is filled.

    The same as padding all sides and cropping at random.

    Args:
        padding: largest shift in pixels.
        fill: colour of what comes in.
    """

    per_sample = True

    def __init__(self, padding: int, fill: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__()
        self.padding = int(padding)
        self.fill = np.array(fill)
        if self.padding < 0:
            raise PipelineError(f"RandomTranslate: expected padding of at least 0, found {padding}")

    def generate_code(self) -> Callable:
        padding = self.padding
        fill = self.fill

        def translate(images, memory, streams):
            height, width = images.shape[1], images.shape[2]
            for position in range(images.shape[0]):
                # Where the image's top left corner comes to lie.
                down = padding - int(stream_uniform(streams[position], 0) * (2 * padding + 1))
                right = padding - int(stream_uniform(streams[position], 1) * (2 * padding + 1))
                memory[position, :, :] = fill
                if abs(down) < height and abs(right) < width:
                    memory[position, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = images[
                        position, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
                    ]
            return memory[: images.shape[0]]

        translate.is_parallel = True
        translate.with_random = True
        return translate

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        channels = need_image(self, previous_state)[2]
        if self.fill.shape != (channels,):
            raise PipelineError(f"RandomTranslate: expected a fill of {channels} numbers, found {self.fill.tolist()}")
        self.fill = self.fill.astype(previous_state.dtype)
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)
