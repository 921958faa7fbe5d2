"""Crop a random part of images and resize it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import PipelineError
from ..kernels import crop_images as kernel
from ..kernels.crop import random_crop
from ..kernels.memory import float_bits
from ..kernels.taps import INTERPOLATIONS
from ..libffcv import resize_crop
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation, one_of
from ..pipeline.state import State
from ._checks import expect_array, expect_image, expect_uint8

__all__ = ["RandomResizedCrop"]


class RandomResizedCrop(Operation):
    """A random part of each image, resized to a square. Works on uint8 RGB arrays of any size.

    `RandomResizedCropRGBImageDecoder` does the same while it decodes, which is faster: less is decoded.

    Args:
        scale: least and largest share of the image's area.
        ratio: least and largest aspect ratio (width / height) of the part.
        size: side of the result in pixels, or `(height, width)`.
        interpolation: see `RandomResizedCropRGBImageDecoder`.

    Raises:
        PipelineError: for tensors, anything but uint8 RGB images, bounds that are not in order, or an unknown
            interpolation.
    """

    per_sample = True

    def __init__(
        self,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        size: int | Sequence[int],
        interpolation: str = "area",
    ) -> None:
        super().__init__()
        if not 0 < scale[0] <= scale[1] or not 0 < ratio[0] <= ratio[1]:
            raise PipelineError(
                f"RandomResizedCrop: expected scale and ratio as (least, most) above 0, found {scale!r}, {ratio!r}"
            )
        self.scale = scale
        self.ratio = ratio
        self.size = size
        self.interpolation = one_of(self, "interpolation", interpolation, INTERPOLATIONS)

    def _output_size(self) -> tuple[int, int]:
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        if height < 1 or width < 1:
            raise PipelineError(f"RandomResizedCrop: expected a size of at least 1, found {self.size!r}")
        return int(height), int(width)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        expect_uint8(self, previous_state)
        expect_image(self, previous_state, channels=3)
        shape = (*self._output_size(), 3)
        return replace(previous_state, jit_mode=True, shape=shape), AllocationQuery(shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        smallest, largest = (float(share) for share in self.scale)
        log_narrow, log_wide = (math.log(ratio) for ratio in self.ratio)
        interpolation = INTERPOLATIONS[self.interpolation]

        def crop(images, memory, streams):
            for position in range(len(images)):
                image, stream = images[position], streams[position]
                top, left, height, width = random_crop(
                    image.shape[0],
                    image.shape[1],
                    smallest,
                    largest,
                    log_narrow,
                    log_wide,
                    stream[0],
                    stream[1],
                    stream[2],
                )
                resize_crop(image, top, top + height, left, left + width, memory[position], interpolation)
            return memory[: len(images)]

        crop.is_parallel = True
        crop.with_random = True
        return crop

    def native_step(self, previous_state: State) -> NativeStep | None:
        words = [0] * kernel.OWN_WORDS
        words[kernel.HEIGHT], words[kernel.WIDTH] = (int(side) for side in previous_state.shape[:2])
        words[kernel.TARGET_HEIGHT], words[kernel.TARGET_WIDTH] = self._output_size()
        words[kernel.SMALLEST], words[kernel.LARGEST] = (float_bits(share) for share in self.scale)
        words[kernel.LOG_NARROW], words[kernel.LOG_WIDE] = (float_bits(math.log(ratio)) for ratio in self.ratio)
        words[kernel.INTERPOLATION] = INTERPOLATIONS[self.interpolation]
        flip = (kernel.FLIP_PROBABILITY, kernel.FLIP_KEY)
        return NativeStep(kernel.crop_resized_images, tuple(words), accepts_flip=flip)
