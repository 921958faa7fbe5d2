"""A folder of class folders as encoded images, so that what is a JPEG already need not be decoded."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["JPEGFolder"]


class JPEGFolder:
    """The samples of a torchvision `ImageFolder` as `(bytes of the file, class number)`.

    `RGBImageField` decodes the bytes only where it must: to resize them, or to store pixels.

    Args:
        folder: the folder of class folders, or an `ImageFolder` (its transforms are not applied).

    Attributes:
        samples: `(path, class number)` of each sample.
        classes: names of the classes.
        class_to_idx: class name -> class number.
    """

    def __init__(self, folder: str | os.PathLike | Any) -> None:
        if isinstance(folder, (str, os.PathLike)):
            from torchvision.datasets import ImageFolder

            folder = ImageFolder(os.fspath(folder))
        self.samples: list[tuple[str, int]] = folder.samples
        self.classes: list[str] = folder.classes
        self.class_to_idx: dict[str, int] = folder.class_to_idx

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        path, label = self.samples[index]
        with open(path, "rb", buffering=0) as file:
            return file.read(), label
