"""Write the files that are measured, once, each with the writer of the system that it is for."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

__all__ = ["KINDS", "Kind", "Pictures", "jpeg_folder", "written_file"]


@dataclass(frozen=True)
class Kind:
    """One way to store the pictures; `max_resolution` is the longest side in pixels."""

    name: str
    write_mode: str
    max_resolution: int
    compress_probability: float = 1.0
    jpeg_quality: int = 90


KINDS = {
    kind.name: kind
    for kind in (
        Kind("jpg500", "proportion", 500, 1.0),
        Kind("mix400", "proportion", 400, 0.10),
        Kind("raw400", "raw", 400),
        Kind("raw256", "raw", 256),
    )
}


class Pictures:
    """The first `limit` pictures under a folder, class after class in turn, as (RGB array, class number).

    A class is a folder; pictures that lie in `folder` itself are one class.
    """

    SUFFIXES = (".jpg", ".jpeg", ".png")

    def __init__(self, folder: Path, limit: int) -> None:
        found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in self.SUFFIXES)
        if not found:
            raise SystemExit(f"benchmarks: no pictures ({', '.join(self.SUFFIXES)}) under {folder}")
        by_class: dict[Path, list[Path]] = {}
        for path in found:
            by_class.setdefault(path.parent, []).append(path)
        self.classes = [str(path.relative_to(folder)) for path in by_class]
        self.samples = list(self._in_turn(list(by_class.values())))[:limit]

    @staticmethod
    def _in_turn(classes: list[list[Path]]) -> Iterator[tuple[Path, int]]:
        for position in range(max(map(len, classes))):
            for number, paths in enumerate(classes):
                if position < len(paths):
                    yield paths[position], number

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self.samples[index]
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")), label

    def checksum(self) -> str:
        """A short name for exactly these pictures, by path and size."""
        text = "\n".join(f"{path} {path.stat().st_size}" for path, _ in self.samples)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _write(system: str, kind: Kind, pictures: Pictures, path: str, workers: int) -> None:
    fields: Any = importlib.import_module(f"{system}.fields")
    writer: Any = importlib.import_module(f"{system}.writer")
    image = fields.RGBImageField(
        write_mode=kind.write_mode,
        max_resolution=kind.max_resolution,
        compress_probability=kind.compress_probability,
        jpeg_quality=kind.jpeg_quality,
    )
    columns = {"image": image, "label": fields.IntField()}
    writer.DatasetWriter(path, columns, num_workers=workers).from_indexed_dataset(pictures, chunksize=20)


def written_file(system: str, kind: Kind, pictures: Pictures, cache: Path, workers: int | None = None) -> Path:
    """Return the file of `kind` that `system` ("ffx" or "ffcv") wrote of `pictures`; write it if it is not in `cache`.

    The writer runs in a process of its own, so that nothing of it stays in the measuring one.
    """
    path = cache / f"{pictures.checksum()}_{len(pictures)}_{kind.name}_{system}.beton"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    # Spawned: a fork would inherit the threads of whatever was imported here.
    process = multiprocessing.get_context("spawn").Process(
        target=_write, args=(system, kind, pictures, str(unfinished), workers or os.cpu_count())
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"benchmarks: {system} could not write {path} (exit status {process.exitcode})")
    unfinished.rename(path)
    return path


def jpeg_folder(kind: Kind, pictures: Pictures, cache: Path) -> Path:
    """Return an ImageFolder tree of the same JPEGs that a file of `kind` holds, for peers that read pictures."""
    folder = cache / f"{pictures.checksum()}_{len(pictures)}_{kind.name}_folder"
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    for index in range(len(pictures)):
        picture, label = pictures[index]
        ratio = kind.max_resolution / max(picture.shape[:2])
        if ratio < 1:
            size = (int(picture.shape[1] * ratio), int(picture.shape[0] * ratio))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        target = unfinished / f"{label:04d}" / f"{index:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, kind.jpeg_quality])
    unfinished.rename(folder)
    return folder
