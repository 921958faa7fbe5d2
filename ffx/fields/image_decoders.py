"""The image decoders: whole images, centre crops and random resized crops, all RGB uint8."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import PipelineError
from ..format import IMAGE_METADATA
from ..kernels import stored_image as kernel
from ..kernels.crop import center_crop, random_crop
from ..kernels.image import cropping_kernel, whole_kernel
from ..kernels.memory import float_bits
from ..kernels.stored_image import JPEG_MODE, YUV420_MODE
from ..kernels.taps import AREA, INTERPOLATIONS
from ..libffcv import imdecode, memcpy, resize_crop, resize_crop_yuv420
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.compiler import Compiler
from ..pipeline.operation import NativeStep, Operation, one_of
from ..pipeline.state import State

__all__ = [
    "CenterCropRGBImageDecoder",
    "RandomResizedCropRGBImageDecoder",
    "ResizedCropRGBImageDecoder",
    "SimpleRGBImageDecoder",
    "get_center_crop",
    "get_random_crop",
]

_BYTE = np.dtype("u1")
_UPSAMPLINGS = ("smooth", "fast")


def get_random_crop(height: int, width: int, scale: Sequence[float], ratio: Sequence[float]):
    """A random resized crop drawn from NumPy's (or numba's) own generator, for other people's code.

    Returns:
        `(top, left, height, width)`. ffx's own decoder draws from its keyed streams instead.
    """
    key = np.random.randint(0, 2**62)
    return random_crop(height, width, scale[0], scale[1], math.log(ratio[0]), math.log(ratio[1]), key, 0, 0)


def get_center_crop(height: int, width: int, _, ratio: float):
    """The centred square of `ratio` times the shorter side: `(top, left, height, width)`."""
    return center_crop(height, width, ratio)


def _is_image_metadata(metadata: np.ndarray | None) -> bool:
    """Whether records lie as kernels read them; those of somebody's own field may not."""
    return metadata is not None and metadata.dtype == IMAGE_METADATA


def _modes(metadata: np.ndarray) -> list[int]:
    """The image modes that occur in a file, which decide what has to be compiled."""
    return np.flatnonzero(np.bincount(metadata["mode"])).tolist()


class SimpleRGBImageDecoder(Operation):
    """Whole images as they are stored: `uint8[batch, height, width, 3]`, all of one size.

    Raises:
        PipelineError: when the file's images differ in size.
    """

    per_sample = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        sizes = {side: (int(self.metadata[side].min()), int(self.metadata[side].max())) for side in ("height", "width")}
        if any(least != most for least, most in sizes.values()):
            raise PipelineError(
                f"{type(self).__name__} gives images of one size, but this file's heights go from "
                f"{sizes['height'][0]} to {sizes['height'][1]} and its widths from {sizes['width'][0]} to "
                f"{sizes['width'][1]}: use CenterCropRGBImageDecoder or RandomResizedCropRGBImageDecoder"
            )
        shape = (sizes["height"][1], sizes["width"][1], 3)
        return replace(previous_state, jit_mode=True, shape=shape, dtype=_BYTE), AllocationQuery(shape, _BYTE)

    def generate_code(self) -> Callable:
        mem_read = self.memory_read
        decode_image = Compiler.compile(imdecode)
        copy = Compiler.compile(memcpy)
        convert = Compiler.compile(resize_crop_yuv420)

        def decode(batch_indices, destination, metadata, storage_state):
            for position in range(len(batch_indices)):
                record = metadata[batch_indices[position]]
                data = mem_read(record["data_ptr"], storage_state)
                height, width = np.uint32(record["height"]), np.uint32(record["width"])
                if record["mode"] == JPEG_MODE:
                    failed = decode_image(
                        data, destination[position], height, width, height, width, 0, 0, 1, 1, False, False
                    )
                    if failed != 0:
                        raise ValueError("damaged JPEG data")
                elif record["mode"] == YUV420_MODE:
                    convert(data, height, width, 0, height, 0, width, destination[position], AREA)
                else:
                    if data.size != destination[position].size:
                        raise ValueError("a stored image's size differs from its metadata")
                    copy(data, destination[position])
            return destination[: len(batch_indices)]

        decode.is_parallel = True
        return decode

    def native_step(self, previous_state: State) -> NativeStep | None:
        if not _is_image_metadata(self.metadata):
            return None
        words = [0] * kernel.OWN_WORDS
        words[kernel.HEIGHT], words[kernel.WIDTH] = (
            int(self.metadata["height"].max()),
            int(self.metadata["width"].max()),
        )
        return NativeStep(whole_kernel(_modes(self.metadata)), tuple(words))


class ResizedCropRGBImageDecoder(SimpleRGBImageDecoder, metaclass=ABCMeta):
    """A crop of each image, resized to `output_size`: `uint8[batch, *output_size, 3]`.

    A subclass gives `get_crop_generator`, a function `(height, width, scale, ratio) -> (top, left,
    height, width)`, and may set `scale` and `ratio`. Assigning `output_size` between epochs changes
    the resolution.

    Args:
        output_size: `(height, width)` of the result, in pixels.
        interpolation: `"area"` (OpenCV's `INTER_AREA`, what FFCV trains with), `"antialias"` (torchvision's
            antialiased bilinear) or `"bilinear"` (two neighbours an axis, even where it shrinks). Evaluate
            with the one that training used.
        upsampling: see `RandomResizedCropRGBImageDecoder`.

    Raises:
        PipelineError: for an unknown interpolation or upsampling.
    """

    scale: Any = None
    ratio: Any = None
    # For subclasses written for FFCV that do not call __init__.
    interpolation: str = "area"
    upsampling: str = "smooth"

    def __init__(
        self, output_size: tuple[int, int], *, interpolation: str = "area", upsampling: str = "smooth"
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.interpolation = one_of(self, "interpolation", interpolation, INTERPOLATIONS)
        self.upsampling = one_of(self, "upsampling", upsampling, _UPSAMPLINGS)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        height, width = (int(side) for side in self.output_size)
        if height < 1 or width < 1:
            raise PipelineError(
                f"{type(self).__name__}: expected an output_size of at least (1, 1), found {self.output_size}"
            )
        # Both may have been assigned since, as `output_size` may.
        one_of(self, "interpolation", self.interpolation, INTERPOLATIONS)
        one_of(self, "upsampling", self.upsampling, _UPSAMPLINGS)
        self.max_width = np.uint64(self.metadata["width"].max())
        self.max_height = np.uint64(self.metadata["height"].max())
        state = replace(previous_state, jit_mode=True, shape=(height, width, 3), dtype=_BYTE)
        result = AllocationQuery((height, width, 3), _BYTE)
        if type(self).generate_code is ResizedCropRGBImageDecoder.generate_code:
            return state, result
        # A subclass with code of its own expects what FFCV gives: room for a whole decoded image too.
        return state, (result, AllocationQuery((int(self.max_height) * int(self.max_width) * 3,), _BYTE))

    def on(self, device: torch.device | str | int, resident: bool = False) -> Operation:
        """This decoder with its crop and resize done on a device: `uint8[batch, *output_size, 3]` tensors there.

        For files of raw or YUV 4:2:0 images, on machines with few cores (docs/gpu.md). The same seed gives the
        same crops; grey levels differ by at most one.

        Args:
            device: a GPU, such as `"cuda:0"` (or `"cpu"`: slow, for tests).
            resident: keep the file's images in the device's memory, from when the loader is made; else each
                batch's crops are sent there.
        """
        from .device_crop import DeviceDecoder

        return DeviceDecoder(self, device, resident)

    def generate_code(self) -> Callable:
        get_crop = Compiler.compile(self.get_crop_generator)
        scale = np.array(self.scale, dtype=np.float64) if isinstance(self.scale, (tuple, list)) else self.scale
        ratio = np.array(self.ratio, dtype=np.float64) if isinstance(self.ratio, (tuple, list)) else self.ratio
        crop_image = self._crop_image()

        def decode(batch_indices, destination, metadata, storage_state):
            for position in range(len(batch_indices)):
                record = metadata[batch_indices[position]]
                height, width = np.int64(record["height"]), np.int64(record["width"])
                top, left, crop_height, crop_width = get_crop(height, width, scale, ratio)
                crop_image(record, storage_state, top, left, crop_height, crop_width, destination[position])
            return destination[: len(batch_indices)]

        decode.is_parallel = True
        return decode

    def _crop_image(self) -> Callable:
        """A compiled function that decodes one image and resizes a part of it into `target`."""
        mem_read = self.memory_read
        decode_image = Compiler.compile(imdecode)
        resize = Compiler.compile(resize_crop)
        interpolation = INTERPOLATIONS[self.interpolation]
        fast = self.upsampling == "fast"
        convert = Compiler.compile(resize_crop_yuv420)

        def crop_image(record, storage_state, top, left, crop_height, crop_width, target):
            data = mem_read(record["data_ptr"], storage_state)
            height, width = np.int64(record["height"]), np.int64(record["width"])
            if record["mode"] == JPEG_MODE:
                pixels = np.empty((height, width, 3), np.uint8)
                if decode_image(data, pixels, height, width, height, width, 0, 0, 1, 1, False, False, fast) != 0:
                    raise ValueError("damaged JPEG data")
                resize(pixels, top, top + crop_height, left, left + crop_width, target, interpolation)
            elif record["mode"] == YUV420_MODE:
                bottom, right = top + crop_height, left + crop_width
                convert(data, height, width, top, bottom, left, right, target, interpolation)
            else:
                if data.size != 3 * height * width:
                    raise ValueError("a stored image's size differs from its metadata")
                pixels = data.reshape((height, width, 3))
                resize(pixels, top, top + crop_height, left, left + crop_width, target, interpolation)

        return Compiler.compile(crop_image)

    @property
    @abstractmethod
    def get_crop_generator(self) -> Callable:
        """The function that chooses the crop (see the class)."""

    def _crop_words(self, crop: int, floats: dict[int, float]) -> tuple[int, ...]:
        words = [0] * kernel.OWN_WORDS
        words[kernel.HEIGHT], words[kernel.WIDTH] = (int(side) for side in self.output_size)
        words[kernel.CROP] = crop
        words[kernel.INTERPOLATION] = INTERPOLATIONS[self.interpolation]
        words[kernel.FAST_UPSAMPLING] = int(self.upsampling == "fast")
        for index, value in floats.items():
            words[index] = float_bits(value)
        return tuple(words)

    def _cropping_step(self, words: tuple[int, ...]) -> NativeStep:
        native = cropping_kernel(_modes(self.metadata))
        return NativeStep(native, words, accepts_flip=(kernel.FLIP_PROBABILITY, kernel.FLIP_KEY))

    def native_step(self, previous_state: State) -> NativeStep | None:
        return None


class RandomResizedCropRGBImageDecoder(ResizedCropRGBImageDecoder):
    """A random part of each image, resized: the usual decoder for training.

    Args:
        output_size: `(height, width)` of the result, in pixels.
        scale: least and largest share of the image's area.
        ratio: least and largest aspect ratio (width / height) of the part.
        interpolation: `"area"`, `"antialias"` or `"bilinear"` (`ResizedCropRGBImageDecoder`).
        upsampling: how the chroma of JPEGs is brought to full size: `"smooth"` blends neighbouring samples, as
            FFCV, OpenCV and Pillow do; `"fast"` repeats each sample, as libjpeg-turbo's fast upsampling does
            (ordinary baseline JPEGs of 4:2:0 and 4:2:2; others, such as progressive ones, stay smooth).
            That changes crops of photographs of at most 500 pixels at quality 90 by 0.3 to 0.8 grey levels in the
            mean (the worst of 500 by 3.3) and single pixels at edges of strong colours by up to 95.

    The crop depends on seed, epoch and sample alone (`ffx.kernels.crop.random_crop`), so it is the same
    for any number of workers and ranks.
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        *,
        interpolation: str = "area",
        upsampling: str = "smooth",
    ) -> None:
        super().__init__(output_size, interpolation=interpolation, upsampling=upsampling)
        self.scale = scale
        self.ratio = ratio

    @property
    def get_crop_generator(self) -> Callable:
        return get_random_crop

    def _log_ratio(self) -> tuple[float, float]:
        return math.log(self.ratio[0]), math.log(self.ratio[1])

    def generate_code(self) -> Callable:
        if type(self).get_crop_generator is not RandomResizedCropRGBImageDecoder.get_crop_generator:
            return super().generate_code()
        smallest, largest = (float(share) for share in self.scale)
        log_narrow, log_wide = self._log_ratio()
        crop_image = self._crop_image()

        def decode(batch_indices, destination, metadata, storage_state, streams):
            for position in range(len(batch_indices)):
                record = metadata[batch_indices[position]]
                key, sample, occurrence = streams[position]
                top, left, crop_height, crop_width = random_crop(
                    np.int64(record["height"]),
                    np.int64(record["width"]),
                    smallest,
                    largest,
                    log_narrow,
                    log_wide,
                    key,
                    sample,
                    occurrence,
                )
                crop_image(record, storage_state, top, left, crop_height, crop_width, destination[position])
            return destination[: len(batch_indices)]

        decode.is_parallel = True
        decode.with_random = True
        return decode

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        state, allocation = super().declare_state_and_memory(previous_state)
        if type(self).generate_code is RandomResizedCropRGBImageDecoder.generate_code:
            allocation = AllocationQuery(state.shape, _BYTE)
        return state, allocation

    def native_step(self, previous_state: State) -> NativeStep | None:
        own = type(self).get_crop_generator is RandomResizedCropRGBImageDecoder.get_crop_generator
        if not own or not _is_image_metadata(self.metadata):
            return None
        log_narrow, log_wide = self._log_ratio()
        floats = {
            kernel.SMALLEST: self.scale[0],
            kernel.LARGEST: self.scale[1],
            kernel.LOG_NARROW: log_narrow,
            kernel.LOG_WIDE: log_wide,
        }
        words = self._crop_words(kernel.RANDOM_CROP, floats)
        return self._cropping_step(words)


class CenterCropRGBImageDecoder(ResizedCropRGBImageDecoder):
    """The centred square of each image, resized: the usual decoder for validation.

    Args:
        output_size: `(height, width)` of the result, in pixels.
        ratio: side of the square as a share of the image's shorter side (ImageNet: 224/256).
        interpolation, upsampling: see `RandomResizedCropRGBImageDecoder`. Evaluate with what training used.
    """

    def __init__(
        self, output_size: tuple[int, int], ratio: float, *, interpolation: str = "area", upsampling: str = "smooth"
    ) -> None:
        super().__init__(output_size, interpolation=interpolation, upsampling=upsampling)
        self.scale = None
        self.ratio = ratio

    @property
    def get_crop_generator(self) -> Callable:
        return get_center_crop

    def native_step(self, previous_state: State) -> NativeStep | None:
        own = type(self).get_crop_generator is CenterCropRGBImageDecoder.get_crop_generator
        if not own or not _is_image_metadata(self.metadata):
            return None
        words = self._crop_words(kernel.CENTER_CROP, {kernel.SMALLEST: float(self.ratio)})
        return self._cropping_step(words)
