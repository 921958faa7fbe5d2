"""Image decoders whose crop and resize are done on a device: the host only says what to crop.

```
CropRequests   draws crops and flips                        native, by sample       the decoder's host parts
CropParts      copies the stored pixels of each crop        native, only if streamed
DeviceDecoder  copies what those made, crops and resizes    one kernel a batch
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..kernels import crop_request as request
from ..kernels import stored_image as image
from ..kernels.crop import center_crop, random_crop
from ..kernels.crop_parts import copy_part, copy_parts, place_parts
from ..kernels.crop_request import write_request
from ..kernels.crop_twin import crop_requested
from ..kernels.stored_image import stored_bytes
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.device import resolve_device
from ..pipeline.operation import FileRange, NativeStep, Operation, PixelStep
from ..pipeline.state import INITIAL_STATE, State
from .image_decoders import ResizedCropRGBImageDecoder, SimpleRGBImageDecoder

__all__ = ["CropParts", "CropRequests", "DeviceDecoder"]

_BYTE = np.dtype("u1")
_WORD = np.dtype("i8")
_SIZE_WORDS = (request.MODE, request.IMAGE_HEIGHT, request.IMAGE_WIDTH)
# Beyond any file.
_ANYWHERE = 1 << 62


class DeviceDecoder(SimpleRGBImageDecoder):
    """Crops and resizes on a device: `uint8[batch, *output_size, 3]` tensors there. Made by `decoder.on(device)`.

    The same seed gives the same crops and flips as `decoder` does on the CPU; grey levels differ by at most
    one. Only raw and YUV 4:2:0 images can be cropped so.

    Args:
        decoder: a random resized crop or a centre crop; its `output_size` and other settings are used.
        device: a GPU (needs Triton), or `"cpu"`: slow, for tests.
        resident: keep the file's images in the device's memory; else each batch's crops are sent there.

    Raises:
        PipelineError: for a file with JPEG images, a device or Triton that is not there, a decoder with a crop
            of its own.
    """

    per_sample = False
    passes_flip_on = True
    takes_pixel_steps = True

    def __init__(self, decoder: ResizedCropRGBImageDecoder, device: torch.device | str | int, resident: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.device = device
        self.resident = bool(resident)
        self._parts: tuple[Operation, ...] = (
            (CropRequests(self),) if resident else (CropRequests(self), CropParts(self))
        )
        self._resolved: torch.device | None = None

    @property
    def output_size(self) -> tuple[int, int]:
        """`(height, width)` of the result; may be assigned between epochs."""
        return self.decoder.output_size

    @output_size.setter
    def output_size(self, size: tuple[int, int]) -> None:
        self.decoder.output_size = size

    def host_parts(self) -> Sequence[Operation]:
        return self._parts

    def settled_device(self) -> torch.device:
        """The device, checked when first asked for and the same ever after.

        Raises:
            PipelineError: torch doesn't see it, or has no kernel for it.
        """
        if self._resolved is None:
            name = f"{type(self.decoder).__name__}.on"
            device = resolve_device(self.device, name, "decode on the CPU, without .on(…)")
            if device.type not in ("cpu", "cuda"):
                raise PipelineError(f"{name}: expected a CUDA device, found {device}: leave .on(…) out")
            if device.type == "cuda":
                _load_kernel(name)
            self._resolved = device
        return self._resolved

    def mean_share(self) -> float:
        """About how much of an image a crop covers, rather more than less."""
        scale = self.decoder.scale
        return min(1.1 * (scale[0] + scale[1]) / 2, 1.0) if isinstance(scale, (tuple, list)) else 1.0

    def file_range(self) -> FileRange | None:
        if not self.resident:
            return None
        start = self.metadata["data_ptr"].astype(np.int64)
        stop = start + _stored_bytes(self.metadata)
        return FileRange(self.settled_device(), int(start.min()), int(stop.max()))

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        device = self.settled_device()
        height, width = (int(side) for side in self.output_size)
        state = replace(previous_state, jit_mode=False, device=device, shape=(height, width, 3), dtype=torch.uint8)
        return state, AllocationQuery(state.shape, torch.uint8, device)

    def generate_code(self) -> Callable:
        return _DeviceCrop(self.settled_device(), self.resident)

    def generate_code_with(self, pixel_steps: Sequence[PixelStep]) -> Callable:
        """The function that crops and does what the operations behind do to the pixels, in one pass."""
        tables = [step.table() for step in pixel_steps if step.table is not None]
        channels_first = any(step.channels_first for step in pixel_steps)
        return _DeviceCrop(self.settled_device(), self.resident, tables[0], channels_first)

    def native_step(self, previous_state: State) -> NativeStep | None:
        return None


class _HostPart(Operation):
    """What runs on the host for a `DeviceDecoder`, at its place of the pipeline."""

    def __init__(self, owner: DeviceDecoder) -> None:
        super().__init__()
        self.owner = owner


class CropRequests(_HostPart):
    """A crop request for each sample: `int64[batch, REQUEST_WORDS]` (`ffx.kernels.crop_request`)."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        _refuse_jpeg(self.metadata)
        self.owner.accept_globals(self.metadata, self.memory_read)
        # It checks its settings, and knows of the crop what its own kernel needs.
        decoder = self.owner.decoder
        decoder.accept_field(self.field)
        decoder.accept_globals(self.metadata, self.memory_read)
        decoder.declare_state_and_memory(previous_state)
        if decoder.native_step(previous_state) is None:
            raise PipelineError(
                f"{type(decoder).__name__}.on: expected a decoder with ffx's own crop and metadata, found a class that "
                "changes them: decode on the CPU, without .on(…)"
            )
        shape = (request.REQUEST_WORDS,)
        return replace(previous_state, shape=shape, dtype=_WORD), AllocationQuery(shape, _WORD)

    def native_step(self, previous_state: State) -> NativeStep | None:
        """The decoder's own words, so that crops and flips are drawn as on the CPU."""
        on_cpu = self.owner.decoder.native_step(previous_state)
        kept = self.owner.file_range()
        start, stop = (0, _ANYWHERE) if kept is None else (kept.start, kept.stop)
        return NativeStep(request.request_crops, (*on_cpu.words, start, stop), accepts_flip=on_cpu.accepts_flip)

    def generate_code(self) -> Callable:
        words = self.native_step(INITIAL_STATE).words
        smallest, largest, log_narrow, log_wide = (
            float(np.int64(words[index]).view(np.float64))
            for index in (image.SMALLEST, image.LARGEST, image.LOG_NARROW, image.LOG_WIDE)
        )
        is_centred = words[image.CROP] == image.CENTER_CROP
        target_height, target_width = words[image.HEIGHT], words[image.WIDTH]
        data_start, interpolation = words[request.DATA_START], words[image.INTERPOLATION]

        def request_crops(batch_indices, requests, metadata, storage_state, streams):
            for position in range(len(batch_indices)):
                record = metadata[batch_indices[position]]
                height, width = np.int64(record["height"]), np.int64(record["width"])
                if is_centred:
                    crop = center_crop(height, width, smallest)
                else:
                    key, sample, occurrence = streams[position]
                    crop = random_crop(height, width, smallest, largest, log_narrow, log_wide, key, sample, occurrence)
                offset = np.int64(record["data_ptr"]) - data_start
                mode = np.int64(record["mode"])
                write_request(
                    requests[position], offset, mode, height, width, crop, 0, interpolation, target_height, target_width
                )
            return requests[: len(batch_indices)]

        request_crops.with_random = True
        return request_crops


class CropParts(_HostPart):
    """Requests and the stored pixels that they name, in one buffer: `uint8[bytes]` (`ffx.kernels.crop_parts`)."""

    passes_flip_on = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        # Room for what a sample needs in the mean; the loader makes more where a batch needs it.
        part_bytes = self.owner.mean_share() * float(_stored_bytes(self.metadata).mean())
        shape = (8 * request.REQUEST_WORDS + int(part_bytes),)
        return replace(previous_state, shape=shape, dtype=_BYTE), AllocationQuery(shape, _BYTE)

    def native_step(self, previous_state: State) -> NativeStep | None:
        return NativeStep(copy_parts, room=place_parts)

    def generate_code(self) -> Callable:
        mem_read = self.memory_read

        def gather(requests, memory, storage_state):
            buffer = np.empty(place_parts(requests), np.uint8)
            for position in range(len(requests)):
                data = mem_read(np.uint64(requests[position][request.OFFSET]), storage_state)
                size = stored_bytes(*(requests[position][word] for word in _SIZE_WORDS))
                if len(data) != size:
                    raise ValueError("a stored image's size differs from its metadata")
                copy_part(requests[position], position, data.ctypes.data, buffer.ctypes.data)
            return buffer

        gather.with_storage = True
        return gather


class _DeviceCrop:
    """What a `DeviceDecoder` does with a batch, on the current stream.

    Args:
        device: where.
        resident: the images' data come with each call; else they are in the buffer that the host sends.
        table: `[256, 3]`: what each grey level becomes, by channel; `None`: they stay as they are.
        channels_first: the result is seen as `(batch, channels, height, width)`.
    """

    def __init__(
        self, device: torch.device, resident: bool, table: torch.Tensor | None = None, channels_first: bool = False
    ) -> None:
        self.with_file_data = resident
        self._device = device
        self._table = table
        self._tables: dict[int, torch.Tensor] = {}
        self._channels_first = channels_first
        self._staging: dict[int, torch.Tensor] = {}

    def __call__(self, sent: np.ndarray, images: torch.Tensor, data: torch.Tensor | None = None) -> torch.Tensor:
        staged = self._stage(torch.from_numpy(sent.reshape(-1).view(np.uint8)))
        words = staged[: len(images) * 8 * request.REQUEST_WORDS].view(torch.int64)
        requests = words.view(len(images), request.REQUEST_WORDS)
        data = staged if data is None else data
        if self._device.type == "cpu":
            self._crop_here(requests, data, images)
        else:
            from ..kernels.crop_triton import launch

            launch(requests, data, images, self._table_there())
        return images.permute(0, 3, 1, 2) if self._channels_first else images

    def _crop_here(self, requests: torch.Tensor, data: torch.Tensor, images: torch.Tensor) -> None:
        levels = images if self._table is None else torch.empty(images.shape, dtype=torch.uint8)
        crop_requested(requests.numpy(), data.numpy(), levels.numpy())
        if self._table is not None:
            images.copy_(self._table[levels.long(), torch.arange(3)])

    def _table_there(self) -> torch.Tensor | None:
        """The table on the GPU, copied there once for each stream: nobody waits for it."""
        if self._table is None:
            return None
        stream = torch.cuda.current_stream(self._device).cuda_stream
        if stream not in self._tables:
            self._tables[stream] = self._table.pin_memory().to(self._device, non_blocking=True)
        return self._tables[stream]

    def _stage(self, sent: torch.Tensor) -> torch.Tensor:
        """The host's bytes on the device, in memory that the stream's next batch overwrites."""
        if self._device.type == "cpu":
            return sent
        stream = torch.cuda.current_stream(self._device).cuda_stream
        staged = self._staging.get(stream)
        if staged is None or len(staged) < len(sent):
            # A quarter more, so that slowly growing batches do not allocate each time.
            staged = torch.empty(len(sent) + len(sent) // 4, dtype=torch.uint8, device=self._device)
            self._staging[stream] = staged
        return staged[: len(sent)].copy_(sent, non_blocking=True)


def _load_kernel(wanted_by: str) -> None:
    try:
        from ..kernels import crop_triton  # noqa: F401
    except ImportError as error:
        raise PipelineError(
            f"{wanted_by}: expected Triton, which comes with torch's CUDA builds, found none ({error}): install such a "
            "build, or decode on the CPU, without .on(…)"
        ) from error


def _stored_bytes(records: np.ndarray) -> np.ndarray:
    """`int64[samples]`: the bytes of each image that is not a JPEG."""
    height, width = records["height"].astype(np.int64), records["width"].astype(np.int64)
    planes = height * width + 2 * ((height + 1) // 2) * ((width + 1) // 2)
    return np.where(records["mode"] == image.RAW_MODE, 3 * height * width, planes)


def _refuse_jpeg(records: np.ndarray) -> None:
    count = int(np.count_nonzero(records["mode"] == image.JPEG_MODE))
    if count:
        raise PipelineError(
            f"expected raw or YUV 4:2:0 images, which a device can crop, found {count} of {len(records)} stored as "
            "JPEG: write the file with RGBImageField(write_mode='raw') (or 'yuv420', half as large), or decode on the "
            "CPU, without .on(…)"
        )
