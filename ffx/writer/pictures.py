"""torchvision's ImageFolder, read as encoded pictures: the same pixels, decoded by ffx instead of Pillow."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from ..fields.base import Field
from ..fields.pixels import EncodedPicture
from ..fields.rgb_image import RGBImageField

__all__ = ["EncodedFolder", "with_encoded_pictures"]


class EncodedFolder:
    """The samples of an `ImageFolder` with its pictures still encoded; a field must decode each of them.

    Attributes:
        samples: `(path, class number)` of each sample.
    """

    def __init__(self, folder: Any) -> None:
        self.samples: list[tuple[str, int]] = folder.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[EncodedPicture, int]:
        path, label = self.samples[index]
        return EncodedPicture(_read(path)), label


def _read(path: str) -> bytes:
    # What open().read() does, in half the system calls and without growing a buffer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def with_encoded_pictures(dataset: Any, fields: Mapping[str, Field]) -> Any:
    """`dataset`, or what gives the same samples without decoding them, where that is certain.

    It is where the data set is torchvision's own `ImageFolder` as it comes (Pillow's loader, no transform) and
    an `RGBImageField` takes the pictures; a subclass of either may do anything.
    """
    torchvision = sys.modules.get("torchvision")
    folders = sys.modules.get("torchvision.datasets.folder")
    if torchvision is None or folders is None or type(dataset) is not folders.ImageFolder:
        return dataset
    changed = any(getattr(dataset, name, None) is not None for name in ("transform", "target_transform", "transforms"))
    plain = dataset.loader is folders.default_loader and torchvision.get_image_backend() == "PIL" and not changed
    fields_fit = len(fields) == 2 and type(next(iter(fields.values()))) is RGBImageField
    return EncodedFolder(dataset) if plain and fields_fit else dataset
