"""Batches from a folder of class folders, by torchvision's `ImageFolder` and torch's `DataLoader`.

They are there for comparisons and small data sets: every image is decoded whole, every epoch. As in a file of ffx,
what is drawn for an image depends on seed, epoch and image alone: not on the workers, the ranks, or the step at which
an epoch was gone on with.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .cifar_augmentation import cifar_transform
from .errors import DataError
from .randaugment import RANDAUGMENT_BINS, RANDAUGMENT_OPERATIONS
from .source import CENTER_CROP_RATIO, Batch, CountingSource, Purpose
from .workers import load_batches

__all__ = ["FolderSource", "normalize"]


class FolderSource(CountingSource):
    """A folder with a folder of images for each class."""

    kind = "folder"

    def __init__(self, path: str, purpose: Purpose) -> None:
        self.path = path
        self.purpose = purpose
        self._folder = self._open()
        self.images = len(self._folder)
        self.class_names = list(self._folder.classes)
        self.classes = len(self.class_names)

    def _open(self) -> Any:
        """The data set, in torchvision's form."""
        from torchvision.datasets import ImageFolder

        try:
            return ImageFolder(self.path)
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: expected a folder of images for each class: {error}") from error

    def __len__(self) -> int:
        share, size = self._share(self.images), self.purpose.batch_size
        return share // size if self.purpose.training else -(-share // size)

    def _share(self, images: int) -> int:
        ranks = self.purpose.ranks
        # In training all ranks must make the same number of steps.
        extra = 0 if self.purpose.training else int(ranks.rank < images % ranks.world)
        return images // ranks.world + extra

    def _order(self, epoch: int, taken: int) -> list[int]:
        purpose = self.purpose
        order = np.arange(self.images)
        if purpose.training:
            order = np.random.default_rng([purpose.seed, epoch]).permutation(self.images)
        left = order[taken:]
        return left[purpose.ranks.rank :: purpose.ranks.world][: self._share(len(left))].tolist()

    @functools.cached_property
    def _names(self) -> str:
        """A digest of the files' names: labels and order depend on them."""
        root = Path(self.path)
        names = "\n".join(Path(path).relative_to(root).as_posix() for path, _ in self._folder.samples)
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def _about(self) -> dict[str, Any]:
        return {**super()._about(), "names": self._names}

    def _name(self, index: int) -> str:
        """What a message calls an image."""
        return str(self._folder.samples[index][0])

    def epoch(self, epoch: int, resolution: int, batch_size: int = 0) -> Generator[Batch, None, None]:
        """See `Source`."""
        purpose = self.purpose
        self._folder.transform = _folder_transform(purpose, resolution)
        samples = _Seeded(self._folder, purpose, epoch) if purpose.training else self._folder
        order = self._order(epoch, self._begin(epoch))
        for images, labels in load_batches(
            samples, self._name, purpose, batch_size or purpose.batch_size, order, drop_last=purpose.training
        ):
            self._took(len(labels))
            with purpose.clock.copying():
                images, labels = (part.to(purpose.device, non_blocking=True) for part in (images, labels))
            yield normalize(images, purpose), labels


class _Seeded(Dataset):
    """Images whose augmentations depend on seed, epoch and image alone."""

    def __init__(self, images: Dataset, purpose: Purpose, epoch: int) -> None:
        self._images, self._seed, self._epoch = images, purpose.seed, epoch
        self._alternates = purpose.flip and purpose.alternating_flip
        self._augment = _rand_augment(purpose.randaugment) if purpose.randaugment else None

    def __getitem__(self, index: int) -> Any:
        word = np.random.SeedSequence([self._seed, self._epoch, index]).generate_state(1, np.uint64)[0]
        # torchvision draws from torch's generator on the CPU, which the model may use as well.
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(int(word >> np.uint64(1)))
            image, label = self._images[index]
            if self._alternates and self._is_mirrored(index):
                image = image.flip(2)
            return image if self._augment is None else self._augment(image), label

    def _is_mirrored(self, index: int) -> bool:
        """In every second epoch; whether in the first one depends on seed and image."""
        word = np.random.SeedSequence([self._seed, index], spawn_key=(0,)).generate_state(1, np.uint64)[0]
        return (int(word >> np.uint64(63)) + self._epoch) % 2 == 1


def _rand_augment(magnitude: int) -> Any:
    from torchvision.transforms.v2 import RandAugment

    return RandAugment(RANDAUGMENT_OPERATIONS, magnitude, RANDAUGMENT_BINS)


def _folder_transform(purpose: Purpose, resolution: int) -> Any:
    if purpose.augmentation == "cifar":
        return cifar_transform(purpose, resolution)
    from torchvision.transforms import Compose, PILToTensor, RandomResizedCrop
    from torchvision.transforms import RandomHorizontalFlip as Flip

    if not purpose.training:
        return Compose([_CenterCrop(resolution), PILToTensor()])
    flips = purpose.flip and not purpose.alternating_flip
    return Compose([RandomResizedCrop(resolution), *([Flip()] if flips else []), PILToTensor()])


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


def normalize(images: torch.Tensor, purpose: Purpose) -> torch.Tensor:
    """`uint8[batch, 3, height, width]` as normalised numbers on the same device, in channels-last memory."""
    images = images.contiguous(memory_format=torch.channels_last)
    mean = torch.tensor(purpose.mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(purpose.std, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
    return ((images - mean) / std).to(purpose.dtype)
