"""Move images a little."""

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

__all__ = ["RandomTranslate"]


class RandomTranslate(Operation):
    """Moves each image by up to `padding` pixels along both axes (pad and crop). Works on arrays.

    Args:
        padding: the largest move, in pixels.
        fill: one value a channel for what comes into view.

    Raises:
        PipelineError: for tensors, a negative padding, or a fill that the image cannot hold.
    """

    per_sample = True

    def __init__(self, padding: int, fill: Sequence[float] = (0, 0, 0)) -> None:
        super().__init__()
        if padding < 0:
            raise PipelineError(f"RandomTranslate: expected a padding of at least 0, found {padding!r}")
        self.padding = padding
        self.fill = np.array(fill)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        channels = expect_image(self, previous_state)[2]
        self._fill = fill_values(self, self.fill, channels, np.dtype(previous_state.dtype))
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        padding, fill, move = int(self.padding), self._fill, kernel.translate

        def translate(images, memory, streams):
            for position in range(len(images)):
                vertical, horizontal = stream_uniform(streams[position], 0), stream_uniform(streams[position], 1)
                move(images[position], padding, fill, vertical, horizontal, memory[position])
            return memory[: len(images)]

        translate.is_parallel = True
        translate.with_random = True
        return translate

    def native_step(self, previous_state: State) -> NativeStep | None:
        if previous_state.dtype != np.uint8:
            return None
        words = [0] * kernel.OWN_WORDS
        words[kernel.HEIGHT], words[kernel.WIDTH], words[kernel.CHANNELS] = (int(side) for side in previous_state.shape)
        words[kernel.SIZE], words[kernel.FILL] = int(self.padding), self._fill.ctypes.data
        return NativeStep(kernel.translate_images, tuple(words), keep=(self._fill,))
