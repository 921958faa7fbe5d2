"""Where batches come from: a file through `ffx.Loader`, a folder of class folders through torchvision, made tensors.

All three give the same thing, an epoch of `(images, labels)` on the device: normalised images of the model's dtype in
channels-last memory, and int64 labels. The recipe is the same, too: random resized crop and flip for training, the
centred square of 224/256 of the shorter side for validation, ImageNet's mean and standard deviation.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ffx.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.reader import Reader
from ffx.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToDevice, ToTensor, ToTorchImage

from .config import TrainerConfig
from .distributed import Ranks
from .errors import DataError

__all__ = [
    "CENTER_CROP_RATIO",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "FfxSource",
    "FolderSource",
    "Purpose",
    "Source",
    "SyntheticSource",
    "count_classes",
    "open_training",
    "open_validation",
]

# By channel, in grey levels.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255
CENTER_CROP_RATIO = 224 / 256
DEFAULT_CLASSES = 1000

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Purpose:
    """What a source is opened for.

    Attributes:
        training: random crops, flips and order, whole batches only; else centre crops, every image once.
        batch_size: images a batch and rank.
        flip: mirror half of the images.
        seed: of order and augmentations.
        num_workers: threads or processes that load; -1: one a core.
        in_memory: the file fits into memory.
        ranks: the processes that share the images.
        device, dtype: of the images.
    """

    training: bool
    batch_size: int
    flip: bool
    seed: int
    num_workers: int
    in_memory: bool
    ranks: Ranks
    device: torch.device
    dtype: torch.dtype


class Source(ABC):
    """Images and labels, epoch by epoch.

    Attributes:
        path: for messages.
        images: images in the data set, all ranks together.
        class_names: each class's name, or `None` if the data set does not say.
        classes: least number of classes that the labels need, 0 if any will do.
    """

    path: str
    images: int
    class_names: list[str] | None = None
    classes: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches an epoch and rank."""

    @abstractmethod
    def epoch(self, epoch: int, resolution: int) -> Iterator[Batch]:
        """This rank's batches of an epoch: images `[batch, 3, resolution, resolution]`, labels `int64[batch]`."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Give back what the source holds. Safe to call twice."""


class FfxSource(Source):
    """A file of ffx or FFCV with the fields `image` and `label`."""

    def __init__(self, path: str, purpose: Purpose) -> None:
        self.path = path
        self._decoder = (
            RandomResizedCropRGBImageDecoder((32, 32))
            if purpose.training
            else CenterCropRGBImageDecoder((32, 32), CENTER_CROP_RATIO)
        )
        self._loader = Loader(
            path,
            batch_size=purpose.batch_size,
            num_workers=max(purpose.num_workers, 1) if purpose.num_workers >= 0 else -1,
            os_cache=purpose.in_memory,
            order=_order(purpose),
            distributed=purpose.ranks.world > 1,
            seed=purpose.seed,
            pipelines=self._pipelines(path, purpose),
            drop_last=purpose.training,
        )
        reader = self._loader.reader
        fields = list(reader.handlers)
        self._label_first = fields.index("label") < fields.index("image")
        self.images = int(reader.num_samples)
        self.class_names = reader.class_names
        labels = reader.metadata[reader.metadata.dtype.names[fields.index("label")]]
        self.classes = int(np.max(labels)) + 1 if self.images else 0

    def _pipelines(self, path: str, purpose: Purpose) -> dict[str, Any]:
        fields = Reader(path).field_names
        missing = {"image", "label"} - set(fields)
        if missing:
            raise DataError(f"{path}: expected the fields image and label, found {', '.join(fields)}")
        pipelines: dict[str, Any] = dict.fromkeys(fields)
        to_device = [ToDevice(purpose.device)] if purpose.device.type == "cuda" else []
        pipelines["image"] = self._image_pipeline(purpose)
        pipelines["label"] = [IntDecoder(), ToTensor(), *to_device, Squeeze()]
        return pipelines

    def _image_pipeline(self, purpose: Purpose) -> list[Any]:
        front = [self._decoder, *([RandomHorizontalFlip()] if purpose.flip else [])]
        if purpose.device.type == "cuda":
            normalize = NormalizeImage(IMAGENET_MEAN, IMAGENET_STD, purpose.dtype)
            # Bytes travel to the GPU, numbers are made there.
            return [*front, ToTensor(), ToDevice(purpose.device), ToTorchImage(), normalize]
        # NumPy has no bfloat16; autocast makes it from float32.
        normalize = NormalizeImage(IMAGENET_MEAN, IMAGENET_STD, torch.float32)
        return [*front, normalize, ToTensor(), ToTorchImage()]

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, resolution: int) -> Iterator[Batch]:
        """See `Source`."""
        self._decoder.output_size = (resolution, resolution)
        self._loader.next_epoch = epoch
        for first, second in self._loader:
            yield (second, first) if self._label_first else (first, second)

    def close(self) -> None:
        """See `Source`."""
        self._loader.close()


def _order(purpose: Purpose) -> OrderOption:
    if not purpose.training:
        return OrderOption.SEQUENTIAL
    return OrderOption.RANDOM if purpose.in_memory else OrderOption.QUASI_RANDOM


class FolderSource(Source):
    """A folder with a folder of images for each class, by torchvision's `ImageFolder` and torch's `DataLoader`.

    It is there for comparisons and small data sets: every image is decoded whole, every epoch.
    """

    def __init__(self, path: str, purpose: Purpose) -> None:
        from torchvision.datasets import ImageFolder

        self.path = path
        self._purpose = purpose
        try:
            self._folder = ImageFolder(path)
        except FileNotFoundError as error:
            raise DataError(f"{path}: expected a folder of images for each class: {error}") from error
        self.images = len(self._folder)
        self.class_names = list(self._folder.classes)
        self.classes = len(self.class_names)

    def __len__(self) -> int:
        share, size = self._share(), self._purpose.batch_size
        return share // size if self._purpose.training else -(-share // size)

    def _share(self) -> int:
        ranks = self._purpose.ranks
        # In training all ranks must make the same number of steps.
        extra = 0 if self._purpose.training else int(ranks.rank < self.images % ranks.world)
        return self.images // ranks.world + extra

    def _order(self, epoch: int) -> list[int]:
        purpose = self._purpose
        order = np.arange(self.images)
        if purpose.training:
            order = np.random.default_rng([purpose.seed, epoch]).permutation(self.images)
        return order[purpose.ranks.rank :: purpose.ranks.world][: self._share()].tolist()

    def epoch(self, epoch: int, resolution: int) -> Iterator[Batch]:
        """See `Source`."""
        purpose = self._purpose
        self._folder.transform = _folder_transform(purpose, resolution)
        seeds = np.random.SeedSequence([purpose.seed, epoch, purpose.ranks.rank])
        loader = DataLoader(
            self._folder,
            batch_size=purpose.batch_size,
            sampler=self._order(epoch),
            drop_last=purpose.training,
            num_workers=_usable_cores() if purpose.num_workers < 0 else purpose.num_workers,
            pin_memory=purpose.device.type == "cuda",
            generator=torch.Generator().manual_seed(int(seeds.generate_state(1)[0])),
        )
        for images, labels in loader:
            yield normalize(images, purpose.device, purpose.dtype), labels.to(purpose.device, non_blocking=True)


def _folder_transform(purpose: Purpose, resolution: int) -> Any:
    from torchvision.transforms import Compose, PILToTensor, RandomResizedCrop
    from torchvision.transforms import RandomHorizontalFlip as Flip

    if not purpose.training:
        return Compose([_CenterCrop(resolution), PILToTensor()])
    return Compose([RandomResizedCrop(resolution), *([Flip()] if purpose.flip else []), PILToTensor()])


class _CenterCrop:
    """The centred square of 224/256 of the shorter side, resized."""

    def __init__(self, resolution: int) -> None:
        self._resolution = resolution

    def __call__(self, image: Any) -> Any:
        from PIL import Image

        side = max(1, int(CENTER_CROP_RATIO * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        size = (self._resolution, self._resolution)
        return image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def normalize(images: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """`uint8[batch, 3, height, width]` as normalised numbers on a device, in channels-last memory."""
    images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    return ((images - mean) / std).to(dtype)


class SyntheticSource(Source):
    """One batch of random numbers, again and again: training without any loading, for measurements."""

    def __init__(self, images: int, classes: int, purpose: Purpose) -> None:
        self.path = "synthetic"
        self.images = images
        self.classes = classes
        self._purpose = purpose

    def __len__(self) -> int:
        return max(1, self.images // (self._purpose.batch_size * self._purpose.ranks.world))

    def epoch(self, epoch: int, resolution: int) -> Iterator[Batch]:
        """See `Source`."""
        purpose = self._purpose
        generator = torch.Generator().manual_seed(purpose.seed + purpose.ranks.rank)
        shape = (purpose.batch_size, 3, resolution, resolution)
        images = torch.randn(shape, generator=generator).to(purpose.device, purpose.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(self.classes, shape[:1], generator=generator).to(purpose.device)
        for _ in range(len(self)):
            yield images, labels


def open_training(config: TrainerConfig, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> Source:
    """The training set of a configuration.

    Raises:
        DataError: it cannot be trained on.
    """
    purpose = Purpose(
        training=True,
        batch_size=config.training.batch_size,
        flip=config.training.flip,
        seed=config.training.seed,
        num_workers=config.data.num_workers,
        in_memory=config.data.in_memory,
        ranks=ranks,
        device=device,
        dtype=dtype,
    )
    source = _open(config, config.data.train_dataset, config.data.synthetic_images, purpose)
    if not len(source):
        raise DataError(
            f"{source.path}: {source.images} images make no batch of {purpose.batch_size} for each of {ranks.world} "
            "rank(s): use a smaller --training.batch_size"
        )
    return source


def open_validation(config: TrainerConfig, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> Source:
    """The validation set of a configuration."""
    purpose = Purpose(
        training=False,
        batch_size=config.validation.batch_size,
        flip=False,
        seed=config.training.seed,
        num_workers=config.data.num_workers,
        in_memory=True,
        ranks=ranks,
        device=device,
        dtype=dtype,
    )
    return _open(config, config.data.val_dataset, max(1, config.data.synthetic_images // 10), purpose)


def _open(config: TrainerConfig, path: str, synthetic_images: int, purpose: Purpose) -> Source:
    kind = config.data.source
    if kind == "synthetic":
        return SyntheticSource(synthetic_images, config.data.classes or DEFAULT_CLASSES, purpose)
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(f"{path}: no such file or folder")
    if kind == "auto":
        kind = "folder" if place.is_dir() else "ffx"
    return FolderSource(str(place), purpose) if kind == "folder" else FfxSource(str(place), purpose)


def count_classes(wanted: int, sources: list[Source]) -> int:
    """How many outputs the model needs: `wanted`, or else what the data sets say.

    Raises:
        DataError: the data sets disagree, or have more classes than wanted.
    """
    named = [source for source in sources if source.class_names]
    for source in named[1:]:
        if source.class_names != named[0].class_names:
            raise DataError(
                f"{source.path} and {named[0].path} have different classes, so the same label would mean two things: "
                f"{_first_difference(source.class_names or [], named[0].class_names or [])}"
            )
    known = len(named[0].class_names or []) if named else max(source.classes for source in sources)
    classes = wanted or known or DEFAULT_CLASSES
    for source in sources:
        if source.classes > classes:
            raise DataError(f"{source.path}: labels go up to {source.classes - 1}, but there are {classes} classes")
    return classes


def _first_difference(names: list[str], others: list[str]) -> str:
    for number, (name, other) in enumerate(zip(names, others, strict=False)):
        if name != other:
            return f"label {number} is {name!r} in one and {other!r} in the other"
    return f"there are {len(names)} and {len(others)}"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
