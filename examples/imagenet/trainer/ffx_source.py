"""Batches from a file of ffx or FFCV, through `ffx.Loader`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch

from ffx.fields.decoders import (
    CenterCropRGBImageDecoder,
    IntDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffx.loader import Loader, OrderOption
from ffx.reader import Reader
from ffx.remote import RemoteOptions
from ffx.transforms import (
    AlternatingHorizontalFlip,
    NormalizeImage,
    RandomHorizontalFlip,
    Squeeze,
    ToDevice,
    ToTensor,
    ToTorchImage,
)

from .cifar_augmentation import check_stored_sides, file_operations
from .errors import DataError
from .randaugment import RandAugment
from .source import CENTER_CROP_RATIO, Batch, Purpose, Source

__all__ = ["FfxSource"]


class FfxSource(Source):
    """A file of ffx or FFCV with the fields `image` and `label`.

    Args:
        path: the file, or its address.
        purpose: what for.
        remote: how a file behind an address is kept.
    """

    kind = "ffx"

    def __init__(self, path: str, purpose: Purpose, remote: RemoteOptions | None = None) -> None:
        self.path = path
        self.purpose = purpose
        self._decoder = _decoder(purpose)
        self._loader = Loader(
            path,
            batch_size=purpose.batch_size,
            num_workers=max(purpose.num_workers, 1) if purpose.num_workers >= 0 else -1,
            os_cache=purpose.in_memory,
            on_error=purpose.on_error,
            order=_order(purpose),
            distributed=purpose.ranks.world > 1,
            seed=purpose.seed,
            pipelines=self._pipelines(path, purpose, remote),
            drop_last=purpose.training,
            remote=remote,
        )
        reader = self._loader.reader
        # An address without credentials.
        self.path = reader.file_name
        fields = list(reader.handlers)
        self._label_first = fields.index("label") < fields.index("image")
        self.images = int(reader.num_samples)
        self.class_names = reader.class_names
        labels = reader.metadata[reader.metadata.dtype.names[fields.index("label")]]
        self.classes = int(np.max(labels)) + 1 if self.images else 0

    def _pipelines(self, path: str, purpose: Purpose, remote: RemoteOptions | None) -> dict[str, Any]:
        reader = Reader(path, remote=remote)
        path, fields = reader.file_name, reader.field_names
        missing = {"image", "label"} - set(fields)
        if missing:
            raise DataError(f"{path}: expected the fields image and label, found {', '.join(fields)}")
        pipelines: dict[str, Any] = dict.fromkeys(fields)
        to_device = [ToDevice(purpose.device)] if purpose.device.type == "cuda" else []
        pipelines["image"] = self._image_pipeline(purpose)
        pipelines["label"] = [IntDecoder(), ToTensor(), *to_device, Squeeze()]
        return pipelines

    def _image_pipeline(self, purpose: Purpose) -> list[Any]:
        front = file_operations(self._decoder, purpose) if purpose.augmentation == "cifar" else [self._decoder]
        if purpose.flip:
            front.append(AlternatingHorizontalFlip() if purpose.alternating_flip else RandomHorizontalFlip())
        augment = [RandAugment(purpose.randaugment)] if purpose.randaugment else []
        if purpose.device.type == "cuda":
            normalize = NormalizeImage(purpose.mean, purpose.std, purpose.dtype)
            # Bytes travel to the GPU, numbers are made there.
            return [*front, ToTensor(), ToDevice(purpose.device), ToTorchImage(), *augment, normalize]
        # NumPy has no bfloat16; autocast makes it from float32.
        normalize = NormalizeImage(purpose.mean, purpose.std, torch.float32)
        if augment:
            return [*front, ToTensor(), ToTorchImage(), *augment, normalize]
        return [*front, normalize, ToTensor(), ToTorchImage()]

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, resolution: int, batch_size: int = 0) -> Generator[Batch, None, None]:
        """See `Source`."""
        self._loader.batch_size = batch_size or self.purpose.batch_size
        if self.purpose.augmentation == "cifar":
            check_stored_sides(self.path, self._decoder, resolution)
        else:
            self._decoder.output_size = (resolution, resolution)
        self._loader.next_epoch = epoch
        for first, second in self._loader:
            yield (second, first) if self._label_first else (first, second)

    def _place(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def _go_on(self, place: Mapping[str, Any]) -> None:
        self._loader.load_state_dict(place)

    def close(self) -> None:
        """See `Source`."""
        self._loader.close()


def _decoder(purpose: Purpose) -> Any:
    if purpose.augmentation == "cifar":
        return SimpleRGBImageDecoder()
    if purpose.training:
        return RandomResizedCropRGBImageDecoder((32, 32))
    return CenterCropRGBImageDecoder((32, 32), CENTER_CROP_RATIO)


def _order(purpose: Purpose) -> OrderOption:
    if not purpose.training:
        return OrderOption.SEQUENTIAL
    return OrderOption.RANDOM if purpose.in_memory else OrderOption.QUASI_RANDOM
