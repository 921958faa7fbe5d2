"""A tar archive of pictures as a data set, without unpacking it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import ArchiveError
from .bar import Bar
from .tar import TarArchive, TarMember

__all__ = ["ImageArchive"]

# torchvision's `IMG_EXTENSIONS`: what `ImageFolder` takes for a picture.
_PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Each waits for the disk, or for a server of files, most of its time.
_READERS = 16


class ImageArchive:
    """The pictures of an uncompressed tar archive as `(bytes of the file, class number)`.

    Samples and classes are those of a torchvision `ImageFolder` of the unpacked archive, in its order, so
    `DatasetWriter` makes the same file of both. Three kinds of archive are known:

    - one tar archive a class, named after it, as ILSVRC2012_img_train.tar;
    - one folder a class;
    - with `folders`: pictures without folders, as ILSVRC2012_img_val.tar.

    Args:
        path: the archive.
        folders: a picture's name -> its class, for all pictures of the archive.
        root: the folder in the archive that holds the folders of the classes.
        progress: while headers are read of one tar archive a class, show a bar with rate and time left on the standard
            error stream. They are a million, each behind a picture.

    Attributes:
        samples: `(where the picture comes from, class number)` of each sample.
        classes: names of the classes, sorted.
        class_to_idx: class name -> class number.
        sizes: bytes of each sample's file, int64[samples].

    Raises:
        ArchiveError: the archive is damaged, compressed, or of another kind; or a picture has no class, or a class no
            picture.
        OSError: the archive cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        folders: Mapping[str, str] | None = None,
        root: str | os.PathLike = "",
        progress: bool = False,
    ) -> None:
        self.archive = TarArchive(path)
        members = self.archive.members()
        if folders is not None:
            by_class = _by_table(self.archive, members, folders)
        elif any(_is_class_archive(member) for member in members):
            by_class = _by_class_archive(self.archive, members, progress)
        else:
            by_class = _by_folder(self.archive, members, os.fspath(root))
        self.classes: list[str] = sorted(by_class)
        self.class_to_idx: dict[str, int] = {name: number for number, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = []
        extents: list[tuple[int, int]] = []
        for number, name in enumerate(self.classes):
            pictures = sorted(filter(_is_picture, by_class[name]), key=lambda member: os.path.split(member.name))
            if not pictures:
                raise ArchiveError(f"{self.archive.path}: expected pictures of class {name}, found none")
            self.samples += [(f"{self.archive.path}: {name}/{member.name}", number) for member in pictures]
            extents += [(member.start, member.size) for member in pictures]
        self._extents = np.array(extents, dtype=np.int64).reshape(-1, 2)
        self.sizes = self._extents[:, 1]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        start, size = self._extents[index].tolist()
        return self.archive.read(start, size), self.samples[index][1]


def _is_picture(member: TarMember) -> bool:
    return member.name.lower().endswith(_PICTURES)


def _is_class_archive(member: TarMember) -> bool:
    return not member.is_folder and member.name.endswith(".tar")


def _files(members: Iterable[TarMember]) -> list[TarMember]:
    return [member for member in members if not member.is_folder]


def _by_class_archive(archive: TarArchive, members: list[TarMember], progress: bool) -> dict[str, list[TarMember]]:
    inner = [member for member in members if _is_class_archive(member)]
    for member in inner:
        if "/" in member.name:
            raise ArchiveError(f"{archive.path}: expected the classes' archives without folders, found {member.name}")
    name = os.path.basename(archive.path)
    with (
        ThreadPoolExecutor(_READERS) as pool,
        Bar(
            pool.map(archive.members, inner),
            total=len(inner),
            desc=f"headers of {name}",
            unit=" classes",
            disable=not progress,
        ) as found,
    ):
        return {member.name[:-4]: _files(own) for member, own in zip(inner, found, strict=True)}


def _by_folder(archive: TarArchive, members: list[TarMember], root: str) -> dict[str, list[TarMember]]:
    steps = [step for step in root.split("/") if step not in ("", ".")]
    prefix = "".join(f"{step}/" for step in steps)
    by_class: dict[str, list[TarMember]] = {}
    for member in members:
        name, slash, rest = member.name.removeprefix(prefix).partition("/")
        if not member.name.startswith(prefix) or not (slash or member.is_folder):
            continue
        own = by_class.setdefault(name, [])
        if not member.is_folder:
            own.append(member._replace(name=rest))
    if not by_class:
        raise ArchiveError(
            f"{archive.path}: expected a folder or a tar archive for each class{f' in {root}' if root else ''}, found "
            "neither; pictures without folders need a table of their classes (folders)"
        )
    return by_class


def _by_table(archive: TarArchive, members: list[TarMember], folders: Mapping[str, str]) -> dict[str, list[TarMember]]:
    by_class: dict[str, list[TarMember]] = {name: [] for name in folders.values()}
    left = set(folders)
    for member in filter(_is_picture, _files(members)):
        if member.name not in folders:
            raise ArchiveError(f"{archive.path}: expected a class for each picture, found none for {member.name}")
        by_class[folders[member.name]].append(member)
        left.discard(member.name)
    if left:
        raise ArchiveError(
            f"{archive.path}: expected {len(folders)} pictures, as the table of their classes says; {len(left)} are "
            f"not there, {min(left)} the first"
        )
    return by_class
