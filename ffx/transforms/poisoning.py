"""Blend a mask into chosen images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels.relabel import blend_mask, contains
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import expect_array, expect_image, expect_numbers, sample_ids

__all__ = ["Poison"]


class Poison(Operation):
    """Blends a mask into chosen images: `(1 - alpha) * image + alpha * mask`. Works on arrays.

    Args:
        mask: `(height, width, channels)`, in the images' units.
        alpha: opacity from 0 to 1: `(height, width)`, or one number for all.
        indices: the samples, by their indices in the file.
        clamp: least and largest value of the result.

    Raises:
        PipelineError: for tensors, for images of another size than the mask, for indices that are no
            sample numbers.
    """

    per_sample = True

    def __init__(
        self,
        mask: np.ndarray,
        alpha: np.ndarray | float,
        indices: Sequence[int],
        clamp: tuple[float, float] = (0, 255),
    ) -> None:
        super().__init__()
        self.mask = np.asarray(mask)
        self.alpha = np.asarray(alpha, dtype=np.float64)
        self.indices = sample_ids(self, indices)
        self.clamp = clamp

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        expect_numbers(self, previous_state)
        shape = expect_image(self, previous_state)
        if self.mask.shape != shape or self.alpha.shape not in ((), shape[:2], (*shape[:2], 1), shape):
            raise PipelineError(
                f"Poison: the images are of shape {shape}, so expected a mask of {shape} and an alpha of {shape[:2]}; "
                f"found {self.mask.shape} and {self.alpha.shape}"
            )
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        alpha = self.alpha[..., None] if self.alpha.ndim == 2 else self.alpha
        alpha = np.ascontiguousarray(np.broadcast_to(alpha, self.mask.shape))
        kept, added = 1.0 - alpha, self.mask.astype(np.float64) * alpha
        least, most = (float(value) for value in self.clamp)
        chosen = self.indices

        def poison(images, memory, indices):
            for position in range(len(images)):
                if contains(chosen, indices[position]):
                    blend_mask(images[position], kept, added, least, most, memory[position])
                else:
                    memory[position] = images[position]
            return memory[: len(images)]

        poison.is_parallel = True
        poison.with_indices = True
        return poison
