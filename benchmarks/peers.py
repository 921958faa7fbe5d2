"""The systems that are compared: each opens its file and gives an object whose every iteration is an epoch.

A new peer is one line in `PEERS` and, unless its interface is FFCV's, one function.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import Kind, Pictures, jpeg_folder, written_file

__all__ = ["PEERS", "Peer", "Task"]


@dataclass(frozen=True)
class Task:
    """What one process measures: random crops of `size` pixels and flips, `samples` a epoch, in random order."""

    path: str
    size: int
    samples: int
    batch_size: int
    workers: int
    seed: int = 0


@dataclass(frozen=True)
class Peer:
    """A system under test.

    Attributes:
        package: what must be importable.
        reads: whose file it reads, "ffx" or "ffcv"; "folder" for the pictures themselves.
        open: makes the loader; an epoch is one iteration over (images, labels).
    """

    name: str
    package: str
    reads: str
    open: Callable[[Task], Iterable[Any]]

    def is_here(self) -> bool:
        """Tell whether it, and the writer of its file, can be imported."""
        needed = {self.package} | ({self.reads} - {"folder"})
        return all(importlib.util.find_spec(package) is not None for package in needed)

    def prepare(self, kind: Kind, pictures: Pictures, cache: Path) -> Path | None:
        """Return what it reads for `kind`, written if need be; `None` when it has no such kind."""
        if self.reads != "folder":
            return written_file(self.reads, kind, pictures, cache)
        return (
            jpeg_folder(kind, pictures, cache) if kind.compress_probability == 1.0 and kind.name[:3] == "jpg" else None
        )


def _repeated(count: int, samples: int) -> np.ndarray:
    """Indices of `samples` samples, going through `count` stored ones again and again."""
    return np.resize(np.arange(count), samples)


def _beton(package: str) -> Callable[[Task], Iterable[Any]]:
    """Open a file with a system that has FFCV's interface."""

    def open_loader(task: Task) -> Iterable[Any]:
        fields = importlib.import_module(f"{package}.fields.decoders")
        loader = importlib.import_module(f"{package}.loader")
        reader = importlib.import_module(f"{package}.reader")
        transforms = importlib.import_module(f"{package}.transforms")
        return loader.Loader(
            task.path,
            batch_size=task.batch_size,
            num_workers=task.workers,
            order=loader.OrderOption.RANDOM,
            seed=task.seed,
            os_cache=True,
            drop_last=False,
            indices=_repeated(int(reader.Reader(task.path).num_samples), task.samples),
            pipelines={
                "image": [
                    fields.RandomResizedCropRGBImageDecoder((task.size, task.size)),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                ],
                "label": [fields.IntDecoder(), transforms.ToTensor()],
            },
        )

    return open_loader


def _torchvision(task: Task) -> Iterable[Any]:
    """Open a folder of JPEGs with torchvision and PyTorch's loader: worker processes, Pillow, uint8 tensors."""
    import torch
    from torchvision import datasets, transforms

    chain = [transforms.RandomResizedCrop(task.size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    dataset = datasets.ImageFolder(task.path, transforms.Compose(chain))
    return torch.utils.data.DataLoader(
        torch.utils.data.Subset(dataset, _repeated(len(dataset), task.samples).tolist()),
        batch_size=task.batch_size,
        shuffle=True,
        num_workers=task.workers,
        persistent_workers=True,
    )


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ffx", "ffx", "ffx", _beton("ffx")),
        Peer("ffx-on-ffcv-file", "ffx", "ffcv", _beton("ffx")),
        Peer("ffcv", "ffcv", "ffcv", _beton("ffcv")),
        Peer("torchvision", "torchvision", "folder", _torchvision),
    )
}
