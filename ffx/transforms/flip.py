"""Random mirror images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..kernels.flip import flip_images
from ..kernels.memory import float_bits
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import need_image, need_probability

__all__ = ["RandomHorizontalFlip"]


class RandomHorizontalFlip(Operation):
    """Mirror each image `(height, width, channels)` left to right with a probability.

    Right after an image decoder it costs nothing: the decoder mirrors while it resizes.

    Args:
        flip_prob: the probability.
    """

    per_sample = True

    def __init__(self, flip_prob: float = 0.5) -> None:
        super().__init__()
        self.flip_prob = need_probability(self, "flip_prob", flip_prob)

    def generate_code(self) -> Callable:
        probability = self.flip_prob

        def flip(images, memory, streams):
            for position in range(images.shape[0]):
                if stream_uniform(streams[position], 0) < probability:
                    memory[position] = images[position, :, ::-1]
                else:
                    memory[position] = images[position]
            return memory[: images.shape[0]]

        flip.is_parallel = True
        flip.with_random = True
        return flip

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_image(self, previous_state)
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def native_step(self, previous_state: State) -> NativeStep | None:
        if np.dtype(previous_state.dtype) != np.uint8:
            return None
        words = (*need_image(self, previous_state), float_bits(self.flip_prob))
        return NativeStep(flip_images, words, flip_probability=self.flip_prob)
