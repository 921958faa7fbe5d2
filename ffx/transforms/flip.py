"""Mirror images left to right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels import flip as kernel
from ..kernels.memory import float_bits
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import check_probability, expect_array

__all__ = ["RandomHorizontalFlip"]


class RandomHorizontalFlip(Operation):
    """Mirrors each image left to right with a probability. Works on arrays.

    Behind a decoder of ffx's own the flip costs nothing: the decoder writes the image mirrored.

    Args:
        flip_prob: from 0 to 1.

    Raises:
        PipelineError: for tensors, or a probability outside 0 to 1.
    """

    per_sample = True

    def __init__(self, flip_prob: float = 0.5) -> None:
        super().__init__()
        self.flip_prob = check_probability(self, "flip_prob", flip_prob)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        if len(previous_state.shape) < 2:
            raise PipelineError(
                f"RandomHorizontalFlip expected images of shape (height, width, …), found {previous_state.shape}"
            )
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        flip_prob = self.flip_prob

        def flip(images, memory, streams):
            for position in range(len(images)):
                if stream_uniform(streams[position], 0) < flip_prob:
                    memory[position] = images[position, :, ::-1]
                else:
                    memory[position] = images[position]
            return memory[: len(images)]

        flip.is_parallel = True
        flip.with_random = True
        return flip

    def native_step(self, previous_state: State) -> NativeStep | None:
        height, width, *pixel = previous_state.shape
        words = [0] * kernel.OWN_WORDS
        words[kernel.PROBABILITY] = float_bits(self.flip_prob)
        words[kernel.HEIGHT], words[kernel.WIDTH] = int(height), int(width)
        words[kernel.PIXEL_BYTES] = int(np.prod(pixel, dtype=np.int64)) * np.dtype(previous_state.dtype).itemsize
        return NativeStep(kernel.flip_images, tuple(words), flip_probability=self.flip_prob)
