"""`CustomImageNetDataset`: pictures in class folders, labelled by the sorted names of the folders."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchvision.datasets import ImageFolder
from trainer.errors import DataError

__all__ = ["CustomImageNetDataset", "link_some"]


class CustomImageNetDataset(ImageFolder):
    """Pictures of class folders as `(picture, label)`; labels count the folders' sorted names from 0.

    The trainer reads such folders by themselves; `ffx.writer.DatasetWriter` makes a file of this data set, as of any.

    Args:
        root: the folder of the class folders.
        transform: from a PIL image to what a sample shall hold.

    Raises:
        DataError: there is no such folder, or a class has no picture.
    """

    def __init__(self, root: str | os.PathLike, transform: Callable[[Any], Any] | None = None) -> None:
        try:
            super().__init__(os.fspath(root), transform)
        except FileNotFoundError as error:
            raise DataError(f"{root}: expected a folder of pictures for each class: {error}") from error


def link_some(images: CustomImageNetDataset, folder: Path, most: int) -> None:
    """Make `folder` anew, with links to the first `most` pictures of each class."""
    shutil.rmtree(folder, ignore_errors=True)
    taken: Counter[int] = Counter()
    for path, label in images.samples:
        if taken[label] < most:
            taken[label] += 1
            link = folder / images.classes[label] / Path(path).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(path).absolute())
