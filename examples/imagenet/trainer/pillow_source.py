"""A file's validation images as everybody else makes them: Pillow decodes, torchvision resizes and crops.

They say whether an accuracy depends on ffx's own decoding: `validation.plain_resolution` reports both.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ffx.fields.rgb_image import IMAGE_MODES
from ffx.reader import Reader

from .errors import DataError
from .folder_source import normalize
from .source import CENTER_CROP_RATIO, Batch, CountingSource, Purpose
from .workers import load_batches

__all__ = ["PillowSource", "can_be_read_by_pillow"]


class _Stored(Dataset):
    """Images and labels of a file, as they are stored, for one rank."""

    def __init__(self, path: str, indices: range) -> None:
        self._path, self._indices = path, indices
        self._opened: tuple[Any, Any, Any] | None = None
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        records, labels, data = self._open()
        record = records[self._indices[position]]
        start, height, width = int(record["data_ptr"]), int(record["height"]), int(record["width"])
        if record["mode"] == IMAGE_MODES["raw"]:
            pixels = np.frombuffer(data, np.uint8, height * width * 3, start).reshape(height, width, 3)
            image = Image.fromarray(pixels)
        else:
            image = Image.open(io.BytesIO(data[start : start + self._sizes[start]])).convert("RGB")
        return self.transform(image), int(labels[self._indices[position]])

    def name(self, position: int) -> str:
        """What a message calls an image."""
        return f"{self._path}: sample {self._indices[position]}"

    def _open(self) -> tuple[Any, Any, Any]:
        # In each process that loads: a map is not sent from one to another.
        if self._opened is None:
            records, labels, index = _columns(self._path)
            with open(self._path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._sizes = dict(zip(index.pointers.tolist(), index.sizes.tolist(), strict=True))
            self._opened = records, labels, data
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _columns(path: str) -> tuple[Any, Any, Any]:
    reader = Reader(path)
    names = list(reader.handlers)
    if not {"image", "label"} <= set(names):
        raise DataError(f"{path}: expected the fields image and label, found {', '.join(names)}")
    records, labels = (reader.metadata[f"f{names.index(name)}"] for name in ("image", "label"))
    return records, labels.reshape(len(records), -1)[:, 0], reader.index


def can_be_read_by_pillow(path: str) -> bool:
    """Whether all images of a file are RGB or JPEG; those in planar YUV are known to ffx alone."""
    return bool(np.isin(_columns(path)[0]["mode"], [IMAGE_MODES["raw"], IMAGE_MODES["jpg"]]).all())


class PillowSource(CountingSource):
    """The validation images of a file; each once."""

    kind = "pillow"

    def __init__(self, path: str, purpose: Purpose) -> None:
        self.path, self.purpose = path, purpose
        self.images = len(_columns(path)[0])

    def __len__(self) -> int:
        return math.ceil(len(self._share()) / self.purpose.batch_size)

    def _share(self) -> range:
        return range(self.purpose.ranks.rank, self.images, self.purpose.ranks.world)

    def epoch(self, epoch: int, resolution: int, batch_size: int = 0) -> Generator[Batch, None, None]:
        """See `Source`."""
        from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

        purpose = self.purpose
        self._begin(epoch)
        images = _Stored(self.path, self._share())
        side = round(resolution / CENTER_CROP_RATIO)
        images.transform = Compose([Resize(side), CenterCrop(resolution), PILToTensor()])
        batches = load_batches(images, images.name, purpose, batch_size or purpose.batch_size)
        for pixels, labels in batches:
            self._took(len(labels))
            pixels, labels = (part.to(purpose.device, non_blocking=True) for part in (pixels, labels))
            yield normalize(pixels, purpose), labels

    def _go_on(self, place: Mapping[str, Any]) -> None:
        raise NotImplementedError("an evaluation is begun anew")
