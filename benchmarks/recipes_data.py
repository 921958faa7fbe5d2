"""The data of `recipes`: a folder of class folders, as it is and as files of ffx."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter

__all__ = ["folder_from_idx", "prepare_files", "read_idx"]

# Fashion-MNIST has ten validation images for each sixty of training.
_VALIDATION_SHARE = 0.2
_SIDE = 32
_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "val": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path) -> np.ndarray:
    """An array of MNIST's format, `path` or `path.gz`: `uint8`, of the shape that its head says."""
    packed = path.with_name(f"{path.name}.gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    if data[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path}: expected MNIST's format of bytes, found {data[:3]!r} at its beginning")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def folder_from_idx(source: Path, folder: Path, images_a_class: int) -> None:
    """Write the first images of each class as PNG of 32 px, RGB; a folder that is there already is left as it is."""
    for split, (images_name, labels_name) in _NAMES.items():
        if (folder / split).is_dir():
            continue
        images, labels = read_idx(source / images_name), read_idx(source / labels_name)
        most = images_a_class if split == "train" else round(images_a_class * _VALIDATION_SHARE)
        made = folder / f"{split}.partial"
        for label in np.unique(labels):
            (made / str(label)).mkdir(parents=True, exist_ok=True)
            for number in np.flatnonzero(labels == label)[:most]:
                border = (_SIDE - images.shape[1]) // 2
                pixels = np.pad(images[number], border)
                Image.fromarray(pixels).convert("RGB").save(made / str(label) / f"{number:05d}.png")
        made.rename(folder / split)


class _Folder:
    """Paths and labels of a folder of class folders, in ImageFolder's order."""

    def __init__(self, folder: Path) -> None:
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        self._samples = [
            (path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[str, int]:
        path, label = self._samples[index]
        return os.fspath(path), label


def prepare_files(data: Path, out: Path) -> dict[str, Path]:
    """Files of ffx with the images of `train/` and `val/`, JPEGs as they are; made once."""
    found = {}
    for split in ("train", "val"):
        path = found[split] = out / f"{split}.ffcv"
        if not path.exists():
            out.mkdir(parents=True, exist_ok=True)
            fields = {"image": RGBImageField(write_mode="smart"), "label": IntField()}
            DatasetWriter(path, fields).from_indexed_dataset(_Folder(data / split))
    return found
