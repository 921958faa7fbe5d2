"""Change brightness, contrast or saturation of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import PipelineError
from ..kernels import color as kernel
from ..kernels.memory import float_bits
from ..kernels.rng import stream_uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import check_probability, expect_array, expect_image, expect_uint8

__all__ = ["RandomBrightness", "RandomContrast", "RandomSaturation"]


class _Adjustment(Operation):
    """Blends each image with another one; the formulas are torchvision's (`ffx.kernels.color`).

    Args:
        magnitude: the factor is drawn uniformly between `max(0, 1 - magnitude)` and `1 + magnitude`.
        p: probability that an image is changed at all.

    Raises:
        PipelineError: for tensors, for anything but uint8 RGB images, for a negative magnitude.
    """

    per_sample = True
    kind: int

    def __init__(self, magnitude: float, p: float = 0.5) -> None:
        super().__init__()
        if magnitude < 0:
            raise PipelineError(f"{type(self).__name__}: expected a magnitude of at least 0, found {magnitude!r}")
        self.magnitude = magnitude
        self.p = check_probability(self, "p", p)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        expect_uint8(self, previous_state)
        expect_image(self, previous_state, channels=3)
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        probability, kind, adjust = self.p, self.kind, kernel.adjust
        least, most = max(0.0, 1.0 - self.magnitude), 1.0 + self.magnitude

        def adjust_randomly(images, memory, streams):
            for position in range(len(images)):
                if stream_uniform(streams[position], 0) < probability:
                    share = stream_uniform(streams[position], 1)
                    adjust(images[position], kind, least, most, share, memory[position])
                else:
                    memory[position] = images[position]
            return memory[: len(images)]

        adjust_randomly.is_parallel = True
        adjust_randomly.with_random = True
        return adjust_randomly

    def native_step(self, previous_state: State) -> NativeStep | None:
        words = [0] * kernel.OWN_WORDS
        words[kernel.KIND] = self.kind
        words[kernel.HEIGHT], words[kernel.WIDTH] = (int(side) for side in previous_state.shape[:2])
        words[kernel.PROBABILITY] = float_bits(self.p)
        words[kernel.LEAST] = float_bits(max(0.0, 1.0 - self.magnitude))
        words[kernel.MOST] = float_bits(1.0 + self.magnitude)
        return NativeStep(kernel.adjust_images, tuple(words))


class RandomBrightness(_Adjustment):
    """Multiplies the values of some images by a random factor. Works on uint8 RGB arrays.

    Args:
        magnitude: the factor is drawn uniformly between `max(0, 1 - magnitude)` and `1 + magnitude`.
        p: probability that an image is changed at all.

    Raises:
        PipelineError: for tensors, for anything but uint8 RGB images, for a negative magnitude.
    """

    kind = kernel.BRIGHTNESS


class RandomContrast(_Adjustment):
    """Moves the values of some images away from their mean grey, or towards it. Works on uint8 RGB arrays.

    Args:
        magnitude: the factor is drawn uniformly between `max(0, 1 - magnitude)` and `1 + magnitude`.
        p: probability that an image is changed at all.

    Raises:
        PipelineError: for tensors, for anything but uint8 RGB images, for a negative magnitude.
    """

    kind = kernel.CONTRAST


class RandomSaturation(_Adjustment):
    """Moves the colours of some images away from grey, or towards it. Works on uint8 RGB arrays.

    Args:
        magnitude: the factor is drawn uniformly between `max(0, 1 - magnitude)` and `1 + magnitude`.
        p: probability that an image is changed at all.

    Raises:
        PipelineError: for tensors, for anything but uint8 RGB images, for a negative magnitude.
    """

    kind = kernel.SATURATION
