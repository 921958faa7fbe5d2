"""Random resized crops of images that are decoded already."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels.crop import random_crop
from ..libffcv import resize_crop
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_image

__all__ = ["RandomResizedCrop"]


class RandomResizedCrop(Operation):
    """A random part of each image, resized to a square.

    `RandomResizedCropRGBImageDecoder` does the same while decoding, at a fraction of the cost.

    Args:
        scale: least and largest share of the image's area.
        ratio: least and largest aspect ratio of the part.
        size: side of the result in pixels.
    """

    per_sample = True

    def __init__(self, scale: tuple[float, float], ratio: tuple[float, float], size: int) -> None:
        super().__init__()
        self.scale = scale
        self.ratio = ratio
        self.size = int(size)

    def generate_code(self) -> Callable:
        smallest, largest = (float(share) for share in self.scale)
        log_narrow, log_wide = math.log(self.ratio[0]), math.log(self.ratio[1])

        def crop(images, memory, streams):
            for position in range(images.shape[0]):
                key, sample, occurrence = streams[position]
                top, left, height, width = random_crop(
                    images.shape[1], images.shape[2], smallest, largest, log_narrow, log_wide, key, sample, occurrence
                )
                resize_crop(images[position], top, top + height, left, left + width, memory[position])
            return memory[: images.shape[0]]

        crop.is_parallel = True
        crop.with_random = True
        return crop

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        _, _, channels = need_image(self, previous_state)
        if channels != 3 or np.dtype(previous_state.dtype) != np.uint8 or self.size < 1:
            raise PipelineError(
                f"RandomResizedCrop: expected uint8 RGB images and a size of at least 1, found {previous_state.dtype} "
                f"of shape {previous_state.shape} and {self.size}"
            )
        shape = (self.size, self.size, 3)
        return replace(previous_state, jit_mode=True, shape=shape), AllocationQuery(shape, previous_state.dtype)
