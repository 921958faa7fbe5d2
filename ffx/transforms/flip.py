"""Mirror images left to right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..kernels import flip as kernel
from ..kernels.memory import float_bits
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import check_probability, expect_image

__all__ = ["RandomHorizontalFlip"]


class RandomHorizontalFlip(Operation):
    """Mirrors each image left to right with a probability. Works on arrays, and on tensors of images whose
    channels come last.

    Behind a decoder of ffx's own the flip costs nothing: the decoder writes the image mirrored.

    Args:
        flip_prob: from 0 to 1.

    Raises:
        PipelineError: for anything but images, or a probability outside 0 to 1.
    """

    per_sample = True

    def __init__(self, flip_prob: float = 0.5) -> None:
        super().__init__()
        self.flip_prob = check_probability(self, "flip_prob", flip_prob)
        self._on_arrays = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        self._on_arrays = previous_state.jit_mode
        if not self._on_arrays:
            expect_image(self, previous_state, channels=3)
            return previous_state, None
        if len(previous_state.shape) < 2:
            raise PipelineError(
                f"RandomHorizontalFlip expected images of shape (height, width, …), found {previous_state.shape}"
            )
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        return self._array_code() if self._on_arrays else self._tensor_code()

    def _array_code(self) -> Callable:
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

    def _tensor_code(self) -> Callable:
        flip_prob = self.flip_prob

        def flip(images, _, streams):
            chosen = torch.tensor([stream_uniform(stream, 0) < flip_prob for stream in streams])
            chosen = chosen.to(images.device, non_blocking=True)
            return torch.where(chosen.view(-1, 1, 1, 1), images.flip(2), images)

        flip.with_random = True
        return flip

    def native_step(self, previous_state: State) -> NativeStep | None:
        if not previous_state.jit_mode:
            # Not run; a decoder that crops on a device can take the flip over.
            return NativeStep(kernel.flip_images, flip_probability=self.flip_prob)
        height, width, *pixel = previous_state.shape
        words = [0] * kernel.OWN_WORDS
        words[kernel.PROBABILITY] = float_bits(self.flip_prob)
        words[kernel.HEIGHT], words[kernel.WIDTH] = int(height), int(width)
        words[kernel.PIXEL_BYTES] = int(np.prod(pixel, dtype=np.int64)) * np.dtype(previous_state.dtype).itemsize
        return NativeStep(kernel.flip_images, tuple(words), flip_probability=self.flip_prob)
