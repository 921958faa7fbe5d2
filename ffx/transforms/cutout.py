"""Cut a square out of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels import patch as kernel
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import expect_array, expect_image, fill_values

__all__ = ["Cutout"]


class Cutout(Operation):
    """Fills a square at a random place of each image (DeVries, Taylor: arXiv 1708.04552). Works on arrays.

    The square lies wholly inside the image. Pipelines that start from the uncut images still see them.

    Args:
        crop_size: the square's side in pixels.
        fill: one value a channel; the mean before `NormalizeImage` becomes 0 behind it.

    Raises:
        PipelineError: for tensors, a square larger than the image, or a fill that the image cannot hold.
    """

    per_sample = True

    def __init__(self, crop_size: int, fill: Sequence[float] = (0, 0, 0)) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.fill = np.array(fill)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        height, width, channels = expect_image(self, previous_state)
        if not 0 <= self.crop_size <= min(height, width):
            raise PipelineError(f"Cutout: expected crop_size from 0 to {min(height, width)}, found {self.crop_size}")
        self._fill = fill_values(self, self.fill, channels, np.dtype(previous_state.dtype))
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        size, fill, fill_square = int(self.crop_size), self._fill, kernel.fill_square

        def cutout_square(images, memory, streams):
            for position in range(len(images)):
                vertical, horizontal = stream_uniform(streams[position], 0), stream_uniform(streams[position], 1)
                memory[position] = images[position]
                fill_square(memory[position], size, fill, vertical, horizontal)
            return memory[: len(images)]

        cutout_square.is_parallel = True
        cutout_square.with_random = True
        return cutout_square

    def native_step(self, previous_state: State) -> NativeStep | None:
        if previous_state.dtype != np.uint8:
            return None
        words = [0] * kernel.OWN_WORDS
        words[kernel.HEIGHT], words[kernel.WIDTH], words[kernel.CHANNELS] = (int(side) for side in previous_state.shape)
        words[kernel.SIZE], words[kernel.FILL] = int(self.crop_size), self._fill.ctypes.data
        return NativeStep(kernel.cut_out_images, tuple(words), keep=(self._fill,))
