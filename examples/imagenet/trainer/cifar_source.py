"""CIFAR-10 as torchvision has it, in a folder of its own format."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import torch

from .distributed import sum_over_ranks
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
        ranks = self.purpose.ranks
        if not self._download or ranks.world == 1:
            return self._open_now()
        # One process fetches; then, where machines have disks of their own, one on each; then the others find it there.
        turn = 0 if ranks.is_main else 1 if ranks.local_rank == 0 else 2
        opened = None
        for now in range(3):
            if now == turn:
                opened = self._open_now()
            # Nobody has a sum before all have come here.
            sum_over_ranks(torch.zeros(1, device=self.purpose.device)).item()
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

    def _name(self, index: int) -> str:
        return f"{self.path}: image {index}"

    @functools.cached_property
    def _names(self) -> str:
        """A digest of the images and labels, which have no names."""
        digest = hashlib.sha256(self._folder.data.tobytes())
        digest.update(bytes(self._folder.targets))
        return digest.hexdigest()
