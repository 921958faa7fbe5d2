"""`CustomImageNetDataset`: pictures in class folders, labelled by the sorted names of the folders."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
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
    """Make `folder` anew, with links to the first `most` pictures of each class.

    Raises:
        DataError: there is something else than such links.
    """
    if os.path.lexists(folder):
        if folder.is_symlink() or not folder.is_dir() or any(_files_below(folder)):
            raise DataError(f"{folder}: expected no more than links that an earlier run made: move it elsewhere")
        shutil.rmtree(folder)
    taken: Counter[int] = Counter()
    for path, label in images.samples:
        if taken[label] < most:
            taken[label] += 1
            link = folder / images.classes[label] / Path(path).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(path).absolute())


def _files_below(folder: Path) -> Iterator[Path]:
    """Whatever is neither a folder nor a link."""
    return (path for path in folder.rglob("*") if not path.is_symlink() and not path.is_dir())
