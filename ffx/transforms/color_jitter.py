"""Random brightness, contrast and saturation, as torchvision's `ColorJitter` defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numba import njit

from ..errors import PipelineError
from ..kernels.memory import KERNEL_OPTIONS
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_image, need_probability

__all__ = ["RandomBrightness", "RandomContrast", "RandomSaturation"]


@njit(**KERNEL_OPTIONS)
def _grey(pixel):
    return 0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


@njit(**KERNEL_OPTIONS)
def _clipped(value):
    return min(max(value, 0.0), 255.0)


@njit(**KERNEL_OPTIONS)
def change_brightness(image, factor):
    """Multiply an image `uint8 (height, width, 3)` by a factor, in place."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(3):
                image[row, column, channel] = np.uint8(_clipped(factor * image[row, column, channel]))


@njit(**KERNEL_OPTIONS)
def change_contrast(image, factor):
    """Blend an image with the mean of its grey values, in place."""
    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            total += np.floor(_grey(image[row, column]))
    mean = (1.0 - factor) * (total / (image.shape[0] * image.shape[1]))
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(3):
                image[row, column, channel] = np.uint8(_clipped(factor * image[row, column, channel] + mean))


@njit(**KERNEL_OPTIONS)
def change_saturation(image, factor):
    """Blend each pixel of an image with its grey value, in place."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            grey = (1.0 - factor) * np.floor(_grey(image[row, column]))
            for channel in range(3):
                image[row, column, channel] = np.uint8(_clipped(factor * image[row, column, channel] + grey))


class _RandomColor(Operation):
    """Changes each image in place with a probability, by a random factor.

    Args:
        magnitude: the factor is drawn from `[max(0, 1 - magnitude), 1 + magnitude]`.
        p: the probability.
    """

    per_sample = True
    change: Callable

    def __init__(self, magnitude: float, p: float = 0.5) -> None:
        super().__init__()
        self.p = need_probability(self, "p", p)
        self.magnitude = float(magnitude)
        if self.magnitude < 0:
            raise PipelineError(f"{type(self).__name__}: expected a magnitude of at least 0, found {magnitude}")

    def generate_code(self) -> Callable:
        change = type(self).change
        probability = self.p
        least, most = max(0.0, 1.0 - self.magnitude), 1.0 + self.magnitude

        def change_some(images, _, streams):
            for position in range(images.shape[0]):
                if stream_uniform(streams[position], 0) < probability:
                    change(images[position], least + (most - least) * stream_uniform(streams[position], 1))
            return images

        change_some.is_parallel = True
        change_some.with_random = True
        return change_some

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        _, _, channels = need_image(self, previous_state)
        if channels != 3 or np.dtype(previous_state.dtype) != np.uint8:
            raise PipelineError(
                f"{type(self).__name__}: expected uint8 RGB images, found {previous_state.dtype} of {previous_state.shape}"
            )
        return replace(previous_state, jit_mode=True), None


class RandomBrightness(_RandomColor):
    """Multiply by a random factor."""

    per_sample = True
    change = staticmethod(change_brightness)


class RandomContrast(_RandomColor):
    """Blend with the image's mean grey value."""

    per_sample = True
    change = staticmethod(change_contrast)


class RandomSaturation(_RandomColor):
    """Blend with the grey image."""

    per_sample = True
    change = staticmethod(change_saturation)
