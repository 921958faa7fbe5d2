"""Archives of pictures become class folders; zip archives become tar archives.

Three kinds of archive: a folder for each class, perhaps below one more folder; a tar archive for each class, as
ILSVRC2012_img_train.tar; either of them zipped. Unpacking is that of `writer/`: by threads, each file whole or not
there, and a rerun goes on.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from ffx.errors import ArchiveError
from ffx.writer import TarArchive, TarMember
from writer.extraction import Task, train_tasks, unpack

__all__ = ["class_tasks", "unpack_training_archive", "zip_to_tar"]

_LAST = "train"


def unpack_training_archive(path: Path, output: Path, threads: int, keep: bool = True) -> tuple[Path, int]:
    """The class folders of an archive in `output/train`, and how many files they hold.

    Args:
        path: a tar archive, or a zip archive, beside which a tar archive of the same name is made.
        output: the folder of the folder.
        threads: so many at once.
        keep: whether the archives stay; they take as much room as the pictures.

    Raises:
        ArchiveError: it is damaged or no archive of classes.
        ExtractionError: there is no room, or files were not unpacked.
    """
    if zipfile.is_zipfile(path):
        tar = path.with_suffix(".tar")
        zip_to_tar(path, tar)
        if not keep:
            path.unlink()
        path = tar
    archive = TarArchive(path)
    tasks = class_tasks(archive)
    files, _ = unpack(_LAST, archive, tasks, output, threads)
    if not keep:
        path.unlink()
    return output / _LAST, files


def class_tasks(archive: TarArchive) -> list[Task]:
    """One task for each class of an archive of class archives or class folders.

    Raises:
        ArchiveError: it is neither.
    """
    files = [member for member in archive.members() if not member.is_folder]
    if any(member.name.endswith(".tar") and "/" not in member.name for member in files):
        return train_tasks(archive)
    skipped = _folders_above(archive, files)
    by_class: dict[str, list[tuple[TarMember, str]]] = {}
    for member in files:
        folder, *rest = PurePosixPath(member.name).parts[skipped:]
        by_class.setdefault(folder, []).append((member._replace(name="/".join(rest)), folder))
    return [
        Task(name, sum(member.size for member, _ in own), files=tuple(own)) for name, own in sorted(by_class.items())
    ]


def _folders_above(archive: TarArchive, files: list[TarMember]) -> int:
    """How many folders stand above the folders of the classes: none, or what all files share."""
    depths = {len(PurePosixPath(member.name).parts) for member in files}
    if len(depths) != 1 or min(depths) < 2:
        raise ArchiveError(
            f"{archive.path}: expected pictures in a folder for each class, or a tar archive for each class, found "
            f"{'no files' if not files else 'files in other places'}"
        )
    skipped = depths.pop() - 2
    above = {PurePosixPath(member.name).parts[:skipped] for member in files}
    if len(above) != 1:
        raise ArchiveError(f"{archive.path}: expected one folder with those of the classes, found {len(above)}")
    return skipped


def zip_to_tar(path: Path, tar: Path) -> int:
    """Write a zip archive's files into a tar archive, which appears whole or not at all; how many they are.

    Each file's checksum is compared while it is read. Python does it, so no `unzip` is needed.

    Raises:
        ArchiveError: the archive is damaged, encrypted, or names files outside of itself; or a file is at its place.
    """
    if os.path.lexists(tar) and zipfile.is_zipfile(path):
        raise ArchiveError(
            f"{tar}: expected no file where {path.name} shall become a tar archive, found one: rename or remove it"
        )
    part = tar.with_name(tar.name + ".part")
    try:
        with zipfile.ZipFile(path) as source, tarfile.open(part, "w") as target:
            entries = [entry for entry in source.infolist() if not entry.is_dir()]
            for entry in entries:
                _copy(source, entry, target)
        os.replace(part, tar)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ArchiveError(f"{path}: expected a whole zip archive without a password: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return len(entries)


def _copy(source: zipfile.ZipFile, entry: zipfile.ZipInfo, target: tarfile.TarFile) -> None:
    name = PurePosixPath(entry.filename)
    if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"{source.filename}: expected files below the archive's root, found {entry.filename}")
    member = tarfile.TarInfo(str(name))
    member.size = entry.file_size
    with source.open(entry) as stream:
        target.addfile(member, stream)
