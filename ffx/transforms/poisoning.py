"""Poison chosen images with a mask, for research on robustness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_image

__all__ = ["Poison"]


class Poison(Operation):
    """Blend a mask into the images of chosen samples, in place.

    Args:
        mask: `(height, width, channels)`.
        alpha: opacity, `(height, width)`, from 0 to 1.
        indices: the samples' indices in the file.
        clamp: least and largest value of the result.
    """

    per_sample = True

    def __init__(
        self, mask: np.ndarray, alpha: np.ndarray, indices: Sequence[int], clamp: tuple[int, int] = (0, 255)
    ) -> None:
        super().__init__()
        self.mask = mask
        self.alpha = alpha
        self.indices = np.sort(np.asarray(indices, dtype=np.uint64))
        self.clamp = clamp

    def generate_code(self) -> Callable:
        alpha = np.repeat(np.asarray(self.alpha, dtype=np.float64)[:, :, None], self.mask.shape[2], axis=2)
        addition = np.asarray(self.mask, dtype=np.float64) * alpha
        chosen = self.indices
        least, most = self.clamp

        def poison(images, memory, indices):
            for position in range(images.shape[0]):
                place = np.searchsorted(chosen, np.uint64(indices[position]))
                if place < len(chosen) and chosen[place] == indices[position]:
                    mixed = memory[position]
                    mixed[:] = images[position]
                    mixed *= 1 - alpha
                    mixed += addition
                    images[position] = np.clip(mixed, least, most).astype(images.dtype)
            return images

        poison.is_parallel = True
        poison.with_indices = True
        return poison

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_image(self, previous_state)
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, np.dtype("f4"))
