"""What a source of batches is, and the one that needs no data: one batch of random numbers.

Every source gives the same thing, an epoch of `(images, labels)` on the device: normalised images of the model's
dtype in channels-last memory, and int64 labels. The recipe is the same, too: random resized crop and flip for
training, the centred square of 224/256 of the shorter side for validation, ImageNet's mean and standard deviation; or,
with `data.augmentation=cifar`, images as they are (`cifar_augmentation`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .distributed import Ranks
from .errors import CheckpointError
from .step_clock import StepClock

__all__ = [
    "CENTER_CROP_RATIO",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Batch",
    "CountingSource",
    "Purpose",
    "Source",
    "SyntheticSource",
]

# By channel, in grey levels.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255
CIFAR_MEAN = np.array([0.4914, 0.4822, 0.4465]) * 255
CIFAR_STD = np.array([0.2023, 0.1994, 0.2010]) * 255
CENTER_CROP_RATIO = 224 / 256

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
        on_error: what a file's image that cannot be used is: `"raise"` or `"substitute"`.
        ranks: the processes that share the images.
        device, dtype: of the images.
        alternating_flip: mirror each image in every second epoch instead.
        randaugment: magnitude of RandAugment; 0: none.
        augmentation: `"imagenet"` or `"cifar"`.
        clock: told when images are copied to the device.
    """

    training: bool
    batch_size: int
    flip: bool
    seed: int
    num_workers: int
    in_memory: bool
    on_error: str
    ranks: Ranks
    device: torch.device
    dtype: torch.dtype
    alternating_flip: bool = False
    randaugment: int = 0
    augmentation: str = "imagenet"
    clock: StepClock = field(default_factory=StepClock, compare=False)

    @property
    def mean(self) -> np.ndarray:
        """By channel, in grey levels."""
        return CIFAR_MEAN if self.augmentation == "cifar" else IMAGENET_MEAN

    @property
    def std(self) -> np.ndarray:
        """By channel, in grey levels."""
        return CIFAR_STD if self.augmentation == "cifar" else IMAGENET_STD


class Source(ABC):
    """Images and labels, epoch by epoch.

    Attributes:
        kind: which of them, as `data.source` names it.
        path: for messages.
        purpose: what it was opened for.
        images: images in the data set, all ranks together.
        class_names: each class's name, or `None` if the data set does not say.
        classes: least number of classes that the labels need, 0 if any will do.
    """

    kind: str
    path: str
    purpose: Purpose
    images: int
    class_names: list[str] | None = None
    classes: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches an epoch and rank."""

    @abstractmethod
    def epoch(self, epoch: int, resolution: int, batch_size: int = 0) -> Generator[Batch, None, None]:
        """This rank's batches of an epoch: images `[batch, 3, resolution, resolution]`, labels `int64[batch]`.

        Behind `load_state_dict`, those that were left of it. Without a size, batches have that of `purpose`.
        """

    def steps_left(self, images: int, batch_size: int = 0) -> int:
        """Whole batches for each rank in what is left of an epoch of which all ranks together took so many images."""
        return max(self.images - images, 0) // self.purpose.ranks.world // (batch_size or self.purpose.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """How far the consumer has come: plain numbers and texts, the same on all ranks."""
        return {"kind": self.kind, "place": self._place()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a source of the same data was when it made `state`, on any number of ranks.

        Raises:
            FfxError: it is no such state, or one of other data.
        """
        if state.get("kind") != self.kind:
            raise CheckpointError(
                f"{self.path}: the checkpoint was written in the middle of an epoch of source "
                f"{state.get('kind')}, this one is {self.kind}: go on with the same data"
            )
        self._go_on(state["place"])

    @abstractmethod
    def _place(self) -> dict[str, Any]:
        """The state of this kind of source."""

    @abstractmethod
    def _go_on(self, place: Mapping[str, Any]) -> None:
        """The opposite of `_place`."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Give back what the source holds. Safe to call twice."""


class CountingSource(Source):
    """A source whose place in an epoch is a number of images."""

    _epoch = 0
    _taken = 0
    _resumed: tuple[int, int] | None = None

    def _about(self) -> dict[str, Any]:
        """What must be the same where an epoch goes on."""
        return {"images": self.images}

    def _place(self) -> dict[str, Any]:
        return {**self._about(), "epoch": self._epoch, "taken": self._taken}

    def _go_on(self, place: Mapping[str, Any]) -> None:
        for name, value in self._about().items():
            if place.get(name) != value:
                raise CheckpointError(
                    f"{self.path}: expected the data that the epoch was begun with, but their {name} differ "
                    f"({place.get(name)} then, {value} now): go on with the same data"
                )
        self._epoch, self._taken = self._resumed = place["epoch"], place["taken"]

    def _begin(self, epoch: int) -> int:
        """Images that all ranks took of this epoch before."""
        resumed, self._resumed = self._resumed, None
        self._epoch, self._taken = epoch, resumed[1] if resumed is not None and resumed[0] == epoch else 0
        return self._taken

    def _took(self, images: int) -> None:
        """A batch of so many images goes to the consumer."""
        self._taken += images * self.purpose.ranks.world


class SyntheticSource(CountingSource):
    """One batch of random numbers, again and again: training without any loading, for measurements.

    Where nothing is trained every image counts once, as of other sources: the last batch is a part of one.
    """

    kind = "synthetic"

    def __init__(self, images: int, classes: int, purpose: Purpose) -> None:
        self.path = "synthetic"
        self.images = images
        self.classes = classes
        self.purpose = purpose

    def __len__(self) -> int:
        return self.steps_left(0) if self.purpose.training else -(-self._own_images() // self.purpose.batch_size)

    def _own_images(self) -> int:
        """Images of this rank in an epoch that leaves none out."""
        ranks = self.purpose.ranks
        return (self.images + ranks.world - 1 - ranks.rank) // ranks.world

    def steps_left(self, images: int, batch_size: int = 0) -> int:
        """See `Source`. Of few images a batch can be made as well."""
        steps = super().steps_left(images, batch_size)
        return steps if images else max(1, steps)

    def epoch(self, epoch: int, resolution: int, batch_size: int = 0) -> Generator[Batch, None, None]:
        """See `Source`."""
        purpose = self.purpose
        size = batch_size or purpose.batch_size
        taken = self._begin(epoch)
        left = self.steps_left(taken, size) * size if purpose.training else self._own_images()
        generator = torch.Generator().manual_seed(purpose.seed + purpose.ranks.rank)
        shape = (size, 3, resolution, resolution)
        images = torch.randn(shape, generator=generator).to(purpose.device, purpose.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(self.classes, shape[:1], generator=generator).to(purpose.device)
        while left > 0:
            self._took(min(left, size))
            yield images[:left], labels[:left]
            left -= size
