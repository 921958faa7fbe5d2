"""CIFAR-10 as torchvision has it, in a folder of its own format."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from .distributed import from_first_rank
from .errors import DataError
from .folder_source import FolderSource
from .source import Purpose

__all__ = ["CifarSource"]


class CifarSource(FolderSource):
    """The 50,000 training or 10,000 test images of CIFAR-10.

    Args:
        path: the folder that holds (or gets) `cifar-10-batches-py`.
        purpose: training takes the training images, validation the test images.
        download: fetch them where they are not there.

    Raises:
        DataError: they are not there, damaged, or cannot be fetched.
    """

    kind = "cifar10"

    def __init__(self, path: str, purpose: Purpose, download: bool = False) -> None:
        self._download = download
        super().__init__(path, purpose)

    def _open(self) -> Any:
        # One process fetches; where each machine has a disk of its own, one on each.
        ranks = self.purpose.ranks
        turn = 0 if ranks.is_main else 1 if ranks.local_rank == 0 else 2
        opened = None
        for now in range(3 if self._download and ranks.world > 1 else 1):
            if now == turn or ranks.world == 1 or not self._download:
                opened = self._open_now()
            if self._download:
                from_first_rank(now)
        return opened

    def _open_now(self) -> Any:
        from torchvision.datasets import CIFAR10

        try:
            return CIFAR10(self.path, train=self.purpose.training, download=self._download)
        except (RuntimeError, OSError) as error:
            hint = "is the network there?" if self._download else "--data.download=1 fetches it"
            raise DataError(
                f"{self.path}: expected CIFAR-10 in the form of torchvision (cifar-10-batches-py): {error}; {hint}"
            ) from error

    @functools.cached_property
    def _names(self) -> str:
        """A digest of the images and labels, which have no names."""
        digest = hashlib.sha256(self._folder.data.tobytes())
        digest.update(bytes(self._folder.targets))
        return digest.hexdigest()
