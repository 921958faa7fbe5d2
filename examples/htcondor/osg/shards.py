"""An archive of pictures in parts that are small enough to be a job's input; and a part as a data set.

A part holds the pictures of one shard of the whole, and beside them which shard it is and the names of all classes. So
the shards that jobs write of their parts are those that one machine would write of the whole archive, and `ffx merge`
makes the very same file of them.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ffx.errors import ArchiveError
from ffx.writer import ImageArchive, TarArchive

__all__ = ["ArchivePart", "extent_of_part", "parts_needed", "write_parts"]

_ABOUT = "part.json"
# Of a tar archive: a header for each file, whose bytes are filled up to a block; and its end.
_BLOCK = 512
_END_BYTES = 10_240


def extent_of_part(number: int, parts: int, samples: int) -> tuple[int, int]:
    """The first sample of a part, and the one behind its last: as `DatasetWriter` cuts shards."""
    return number * samples // parts, (number + 1) * samples // parts


def _tar_bytes(sizes: np.ndarray) -> np.ndarray:
    return _BLOCK + -(-sizes // _BLOCK) * _BLOCK


def parts_needed(sizes: np.ndarray, about_bytes: int, limit: int) -> int:
    """The least number of parts of which none is larger than `limit` bytes.

    Raises:
        ArchiveError: a single picture is.
    """
    ends = np.concatenate([[0], np.cumsum(_tar_bytes(sizes))])
    overhead = int(_tar_bytes(np.array([about_bytes]))[0]) + _END_BYTES
    parts = max(1, -(-int(ends[-1]) // max(limit - overhead, 1)))
    while parts <= len(sizes):
        edges = np.array([extent_of_part(number, parts, len(sizes))[0] for number in range(parts)] + [len(sizes)])
        if int(np.diff(ends[edges]).max()) + overhead <= limit:
            return parts
        parts += 1
    raise ArchiveError(f"expected pictures of less than {limit:,} bytes, found one with {int(sizes.max()):,}")


def write_parts(archive: ImageArchive, folder: Path, limit: int) -> Iterator[Path]:
    """Write an archive's parts, none larger than `limit` bytes, and yield each when it is whole.

    Raises:
        ArchiveError: the archive is damaged, or a picture is larger than a part may be.
    """
    longest = json.dumps(_about(archive, 10**9, 10**9))
    parts = parts_needed(archive.sizes, len(longest), limit)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(parts):
        path = folder / f"part-{number}-of-{parts}.tar"
        space = path.with_name(path.name + ".part")
        with tarfile.open(space, "w", format=tarfile.GNU_FORMAT) as tar:
            _add(tar, _ABOUT, json.dumps(_about(archive, number, parts)).encode())
            for index in range(*extent_of_part(number, parts, len(archive))):
                content, label = archive[index]
                # The number keeps pictures of one name apart that lie in different folders of a class.
                name = os.path.basename(archive.samples[index][0])
                _add(tar, f"{archive.classes[label]}/{index:08d}-{name}", content)
        os.replace(space, path)
        yield path


def _about(archive: ImageArchive, number: int, parts: int) -> dict[str, Any]:
    return {"part": number, "parts": parts, "samples": len(archive), "classes": archive.classes}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class ArchivePart:
    """One part as the data set that it is part of; samples of other parts are an error.

    Args:
        path: a part that `write_parts` made.

    Attributes:
        number, parts: which part, of how many.
        classes: names of all classes, sorted.

    Raises:
        ArchiveError: it is no such part.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.archive = TarArchive(path)
        members = [member for member in self.archive.members() if not member.is_folder]
        if not members or members[0].name != _ABOUT:
            raise ArchiveError(f"{path}: expected a part that split_archive.py made, found another archive")
        try:
            about = json.loads(self.archive.read(members[0].start, members[0].size))
            self.number, self.parts, self._samples = (int(about[name]) for name in ("part", "parts", "samples"))
            self.classes: list[str] = [str(name) for name in about["classes"]]
            numbers = {name: number for number, name in enumerate(self.classes)}
            self._members = [(member, numbers[member.name.partition("/")[0]]) for member in members[1:]]
            if not 0 <= self.number < self.parts:
                raise ValueError(f"part {self.number} of {self.parts}")
        except (ValueError, TypeError, KeyError) as error:
            raise ArchiveError(
                f"{path}: expected a part that split_archive.py made, found a damaged one: {error!r}"
            ) from error
        self._first, stop = extent_of_part(self.number, self.parts, self._samples)
        if len(self._members) != stop - self._first:
            raise ArchiveError(f"{path}: expected {stop - self._first} pictures, found {len(self._members)}")

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        if not 0 <= index - self._first < len(self._members):
            raise ArchiveError(f"{self.archive.path}: sample {index} is in another part")
        member, label = self._members[index - self._first]
        return self.archive.read(member.start, member.size), label
