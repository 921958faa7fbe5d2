"""The files that are measured: written once, each with the writer of the system that it is for."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .rows import ROOT, package_version

__all__ = [
    "KINDS",
    "Kind",
    "NotWritten",
    "Pictures",
    "add_file_options",
    "ffx_file",
    "file_of",
    "image_folder",
    "jpeg_folder",
    "written_file",
]


class NotWritten(Exception):
    """A kind of file that this version of a system does not write; the message says why."""


@dataclass(frozen=True)
class Kind:
    """One way to store the pictures.

    Attributes:
        write_mode: of `RGBImageField`.
        max_resolution: longest side in pixels.
        peer_kind: the kind that FFCV reads beside it; its own where empty.
        tiled: ffx must have written restart markers, the borders of tiles.
        as_pictures: peers that read pictures, not files, read the same JPEGs.
    """

    name: str
    write_mode: str
    max_resolution: int
    compress_probability: float = 1.0
    jpeg_quality: int = 90
    peer_kind: str = ""
    tiled: bool = False
    as_pictures: bool = False

    @property
    def for_peers(self) -> Kind:
        """The kind that FFCV reads when ffx reads this one."""
        return KINDS[self.peer_kind or self.name]

    @property
    def own(self) -> bool:
        """Whether ffx reads its own file although FFCV's is there: FFCV does not write this kind."""
        return bool(self.peer_kind)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("jpg500", "proportion", 500, as_pictures=True),
        Kind("tiled500", "jpg", 500, peer_kind="jpg500", tiled=True),
        Kind("mix400", "proportion", 400, 0.10),
        Kind("raw400", "raw", 400),
        Kind("raw256", "raw", 256),
        Kind("yuv400", "yuv420", 400, peer_kind="raw400"),
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

    def cached(self, cache: Path, name: str) -> Path:
        """Where something that was made of these pictures lies."""
        return cache / f"{self.checksum()}_{len(self)}_{name}"


def field_of(system: str, kind: Kind) -> Any:
    """The image field of ffx or FFCV for a kind.

    Raises:
        NotWritten: it refuses the kind.
    """
    fields: Any = importlib.import_module(f"{system}.fields")
    try:
        return fields.RGBImageField(
            write_mode=kind.write_mode,
            max_resolution=kind.max_resolution,
            compress_probability=kind.compress_probability,
            jpeg_quality=kind.jpeg_quality,
        )
    except (TypeError, ValueError) as error:
        raise NotWritten(f"{system}: {error}") from error


def _write(system: str, kind: Kind, pictures: Pictures, path: str, workers: int, repeats: int) -> None:
    fields: Any = importlib.import_module(f"{system}.fields")
    writer: Any = importlib.import_module(f"{system}.writer")
    columns = {"image": field_of(system, kind), "label": fields.IntField()}
    indices = list(range(len(pictures))) * repeats
    writer.DatasetWriter(path, columns, num_workers=workers).from_indexed_dataset(pictures, indices, chunksize=20)


def _version(system: str) -> str:
    """What a file depends on beside the pictures: FFCV's version, or ffx's sources, which change without one."""
    if system != "ffx":
        return package_version(system) or "unknown"
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted((ROOT / "ffx").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def written_file(
    system: str, kind: Kind, pictures: Pictures, cache: Path, workers: int | None = None, repeats: int = 1
) -> Path:
    """Return the file of `kind` that `system` ("ffx" or "ffcv") wrote of `pictures`; write it if it is not in `cache`.

    The writer runs in a process of its own, so that nothing of it stays in the measuring one. With `repeats` the
    file holds every picture so many times.

    Raises:
        NotWritten: the system refuses this kind, or wrote no tiles where there should be some.
    """
    base = pictures.cached(cache, f"{kind.name}{f'x{repeats}' * (repeats > 1)}_{system}")
    path = base.with_name(f"{base.name}-{_version(system)}.beton")
    if not path.exists():
        field_of(system, kind)
        cache.mkdir(parents=True, exist_ok=True)
        for older in cache.glob(f"{base.name}-*"):
            older.unlink()
        unfinished = path.with_suffix(".unfinished")
        # For a few pictures the start of more processes would take longer than the writing.
        workers = workers or (1 if repeats * len(pictures) < 64 else os.cpu_count())
        # Spawned: a fork would inherit the threads of whatever was imported here.
        process = multiprocessing.get_context("spawn").Process(
            target=_write, args=(system, kind, pictures, str(unfinished), workers, repeats)
        )
        process.start()
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"benchmarks: {system} could not write {path} (exit status {process.exitcode})")
        unfinished.rename(path)
    if kind.tiled and system == "ffx" and not _has_restart_markers(path):
        raise NotWritten("this version of ffx writes no tiles")
    return path


def _has_restart_markers(path: Path) -> bool:
    """Whether the first JPEG of a file defines a restart interval (marker DRI)."""
    reader = importlib.import_module("ffx.reader").Reader(str(path))
    start = int(reader.metadata["f0"]["data_ptr"][0])
    with path.open("rb") as file:
        file.seek(start)
        return b"\xff\xdd\x00\x04" in file.read(2048)


def ffcv_is_here() -> bool:
    """Whether FFCV can be imported."""
    return importlib.util.find_spec("ffcv") is not None


def ffx_file(kind: Kind, pictures: Pictures, cache: Path) -> tuple[Path, str]:
    """What ffx reads for a kind, and who wrote it: FFCV's own file where both read the same, else ffx's."""
    system = "ffx" if kind.own or not ffcv_is_here() else "ffcv"
    return written_file(system, kind, pictures, cache), system


def jpeg_folder(kind: Kind, pictures: Pictures, cache: Path) -> Path:
    """Return an ImageFolder tree of the same JPEGs that a file of `kind` holds, for peers that read pictures."""
    folder = pictures.cached(cache, f"{kind.name}_folder")
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


def image_folder(pictures: Pictures, cache: Path) -> Path:
    """Return an ImageFolder tree of links to exactly these pictures, for writers."""
    folder = pictures.cached(cache, "originals")
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    for index, (path, label) in enumerate(pictures.samples):
        target = unfinished / f"{label:04d}" / f"{index:06d}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(path.resolve())
    unfinished.rename(folder)
    return folder


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a benchmark that reads one file: `--beton`, or `--images` to write one of."""
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--beton", type=Path, help="file with the fields image (raw or YUV 4:2:0) and label")
    chosen.add_argument("--images", type=Path, help="folder with pictures to write such a file of: raw, 400 pixels")
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks"), help="folder for the file to write")
    parser.add_argument("--limit", type=int, default=1000, help="pictures that are used")


def file_of(options: argparse.Namespace) -> Path:
    """Return the file that the options of `add_file_options` ask for, written if need be."""
    if options.beton is not None:
        return options.beton
    return written_file("ffx", KINDS["raw400"], Pictures(options.images, options.limit), options.cache)
