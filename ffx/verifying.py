"""Go through all of a file: every sample held against its checksum, every image decoded if asked."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .fields.base import Field
from .fields.pixels import decoded_strictly
from .format import IMAGE_METADATA, IMAGE_MODES, FileIndex, field_of_row
from .format.refusing import require
from .kernels import step
from .kernels.cores import usable_cores
from .kernels.verify import check_rows
from .reader import Reader
from .remote import RemoteOptions
from .remote.fetcher import present

__all__ = ["BadSample", "Report", "verify_file"]

_ROWS_A_TASK = 64


@dataclass(frozen=True)
class BadSample:
    """Bytes of a file that are not what they should be.

    Attributes:
        sample_id: the sample's index in the file.
        field: whose bytes, or `None` where the file's metadata do not tell.
        offset: where they begin in the file.
        size: how many there are.
        reason: what is wrong, in words.
    """

    sample_id: int
    field: str | None
    offset: int
    size: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What was looked at, and what was found.

    Attributes:
        path: the file.
        samples: how many it has.
        data_bytes: bytes stored for them, beside metadata and tables.
        has_checksums: whether they were held against checksums; files that FFCV wrote have none.
        decoded: JPEGs that were decoded (none, and no checksums: nothing of it could be compared).
        bad: what is wrong, by offset.
    """

    path: str
    samples: int
    data_bytes: int
    has_checksums: bool
    decoded: int
    bad: tuple[BadSample, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing bad was found."""
        return not self.bad


def _map(index: FileIndex) -> np.ndarray:
    with open(index.local_path, "rb") as handle:
        status = os.fstat(handle.fileno())
        same = (status.st_dev, status.st_ino, status.st_size) == index.identity[:3]
        require(same, f"{index.path}: the file", "the one that was opened first", "another one, or another length")
        return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _rows_of_jpegs(index: FileIndex) -> Iterator[tuple[int, int, int]]:
    """`(row, height, width)` of each JPEG."""
    for position in range(len(index.field_names)):
        records = index.metadata[f"f{position}"]
        if records.dtype != IMAGE_METADATA:
            continue
        records = records[records["mode"] == IMAGE_MODES["jpg"]]
        rows = np.searchsorted(index.pointers, records["data_ptr"], side="right") - 1
        yield from zip(rows.tolist(), records["height"].tolist(), records["width"].tolist(), strict=True)


def verify_file(
    path: str | os.PathLike,
    *,
    decode: bool | None = None,
    workers: int = -1,
    custom_fields: Mapping[str, type[Field]] | None = None,
    on_progress: Callable[[int], object] | None = None,
    remote: RemoteOptions | None = None,
) -> Report:
    """Look at every sample of a file.

    The tables are proved right as at each opening; then each sample's bytes are held against their checksum.

    Args:
        path: of the file, or its address.
        decode: decode every JPEG too, as strictly as the loader does; `None`: only where there are no checksums.
        workers: threads; below 1: as many as this process may use cores.
        custom_fields: class of each field of a type of its own, by field name.
        on_progress: called with the number of rows or JPEGs that were looked at since.
        remote: how a file behind an address is fetched and kept.

    Raises:
        FormatError: the file is not a valid `.beton` file, or its tables are damaged.
        OSError: it cannot be opened.
    """
    reader = Reader(path, custom_fields, remote)
    index = reader.index
    data = _map(index)
    jpegs = list(_rows_of_jpegs(index)) if decode or (decode is None and index.checksums is None) else []
    with ThreadPoolExecutor(usable_cores() if workers < 1 else workers) as pool:
        rows = range(0, 0 if index.checksums is None else len(index.pointers), _ROWS_A_TASK)
        tasks = [pool.submit(_check, reader, data, first) for first in rows]
        tasks += [
            pool.submit(_decode, reader, data, jpegs[first : first + _ROWS_A_TASK])
            for first in range(0, len(jpegs), _ROWS_A_TASK)
        ]
        bad: dict[int, str] = {}
        for task in tasks:
            count, found = task.result()
            for row, reason in found:
                bad.setdefault(row, reason)
            if on_progress is not None:
                on_progress(count)
    described = tuple(_describe(index, row, bad[row]) for row in sorted(bad))
    samples, stored = int(index.header["num_samples"]), int(index.sizes.sum())
    return Report(index.path, samples, stored, index.checksums is not None, len(jpegs), described)


def _ignore(sample_ids: np.ndarray) -> None:
    """Damage is looked for here anyhow."""


def _check(reader: Reader, data: np.ndarray, first: int) -> tuple[int, list[tuple[int, str]]]:
    index = reader.index
    assert index.checksums is not None
    rows = slice(first, first + _ROWS_A_TASK)
    pointers, sizes, checksums = index.pointers[rows], index.sizes[rows], index.checksums[rows]
    good = np.empty(len(pointers), bool)
    with present(reader.remote, int(pointers[0]), int((pointers + sizes).max()), _ignore):
        check_rows(data.ctypes.data, data.size, pointers, sizes, checksums, 0, len(good), good)
    return len(good), [(first + row, step.STATUS_TEXT[step.DAMAGED]) for row in np.flatnonzero(~good).tolist()]


def _decode(reader: Reader, data: np.ndarray, jpegs: list[tuple[int, int, int]]) -> tuple[int, list[tuple[int, str]]]:
    index, bad = reader.index, []
    for row, height, width in jpegs:
        start, size = int(index.pointers[row]), int(index.sizes[row])
        # A copy: the mapped file may change while its header is read twice.
        with present(reader.remote, start, start + size, _ignore):
            stored = data[start : start + size].copy()
        if decoded_strictly(stored, height, width) is None:
            bad.append((row, step.STATUS_TEXT[step.BAD_JPEG]))
    return len(jpegs), bad


def _describe(index: FileIndex, row: int, reason: str) -> BadSample:
    sample_id, offset, size = (int(column[row]) for column in (index.sample_ids, index.pointers, index.sizes))
    return BadSample(sample_id, field_of_row(index, row), offset, size, reason)
