"""Cutout: a random square of each image is filled (DeVries, Taylor: arXiv 1708.04552)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_image

__all__ = ["Cutout"]


class Cutout(Operation):
    """Fill a square at a random place of each image, in place.

    Args:
        crop_size: side of the square in pixels.
        fill: its colour; the mean of the data makes it 0 after normalisation.
    """

    per_sample = True

    def __init__(self, crop_size: int, fill: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__()
        self.crop_size = int(crop_size)
        self.fill = np.array(fill)

    def generate_code(self) -> Callable:
        side = self.crop_size
        fill = self.fill

        def cutout(images, _, streams):
            for position in range(images.shape[0]):
                top = int(stream_uniform(streams[position], 0) * (images.shape[1] - side + 1))
                left = int(stream_uniform(streams[position], 1) * (images.shape[2] - side + 1))
                images[position, top : top + side, left : left + side] = fill
            return images

        cutout.is_parallel = True
        cutout.with_random = True
        return cutout

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        height, width, channels = need_image(self, previous_state)
        if not 0 <= self.crop_size <= min(height, width):
            raise PipelineError(f"Cutout: expected crop_size from 0 to {min(height, width)}, found {self.crop_size}")
        if self.fill.shape != (channels,):
            raise PipelineError(f"Cutout: expected a fill of {channels} numbers, found {self.fill.tolist()}")
        self.fill = self.fill.astype(previous_state.dtype)
        return replace(previous_state, jit_mode=True), None
