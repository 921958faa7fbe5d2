"""Open a file: prove header, descriptors, metadata and allocation table right before anything relies on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import FormatError
from .file import OpenFile
from .layout import (
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    IMAGE_MODES,
    NAME_BYTES,
    FieldDescType,
    FieldLayout,
    HeaderType,
    check_name,
    check_page_size,
    metadata_type,
    stored_name,
)
from .refusing import check_sum, refuse, require, require_all
from .trailer import Trailer, read_footer, read_trailer

__all__ = ["Copy", "FileIndex", "read_index"]


@dataclass(frozen=True)
class FileIndex:
    """A file whose tables are proved right: what every later stage relies on.

    Attributes:
        path: the file, or the address of it.
        local_path: where its bytes are read: `path`, or the copy of a remote file.
        file_bytes: its size when it was opened.
        header: one record of `HeaderType`.
        field_descriptors: `FieldDescType[fields]`.
        field_names: full names, in the file's order.
        metadata: `record[num_samples]`, mapped read-only; member `f0` belongs to the first field.
        alloc_table: `ALLOC_TABLE_TYPE[rows]` in the file's order.
        pointers: uint64[rows], the rows' pointers, ascending; of equal ones the empty rows come first.
        sizes: uint64[rows] in the same order.
        sample_ids: uint64[rows] in the same order.
        checksums: uint64[rows] in the same order, or `None` in a file without a trailer.
        data_start: no stored sample begins before this offset.
        data_end: no stored sample ends after this offset.
        trailer: what ffx added, or `None`.
        identity: device, number, size and times of change of the file that was opened.
        digest: checksums of its head and its table as its writer stored them; empty without a trailer.
        current_bytes: tells how long the file is now, which may be shorter than what is mapped of it.
    """

    path: str
    local_path: str
    file_bytes: int
    header: np.void
    field_descriptors: np.ndarray
    field_names: list[str]
    metadata: np.ndarray
    alloc_table: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    sample_ids: np.ndarray
    checksums: np.ndarray | None
    data_start: int
    data_end: int
    trailer: Trailer | None
    identity: tuple[int, ...]
    digest: tuple[int, ...]
    current_bytes: Callable[[], int]


def _read_header(file: OpenFile) -> np.void:
    header = np.frombuffer(file.read(0, HeaderType.itemsize, "header"), dtype=HeaderType)[0]
    version = int(header["version"])
    require(version == CURRENT_VERSION, "version", f"{CURRENT_VERSION}", f"{version}; is this a .beton file?")
    require(header["num_fields"] > 0, "num_fields", "at least 1", 0)
    check_page_size(header["page_size"])
    require(header["num_samples"] > 0, "num_samples", "at least 1", 0)
    table_start = int(header["alloc_table_ptr"])
    require(table_start > 0, "alloc_table_ptr", "the allocation table's offset", "0: its writing was never finished")
    head_bytes = HeaderType.itemsize + int(header["num_fields"]) * FieldDescType.itemsize + int(header["num_samples"])
    good = head_bytes <= table_start <= file.size
    require(good, "alloc_table_ptr", f"an offset from {head_bytes} to the file's {file.size} bytes", table_start)
    rest = (file.size - table_start) % ALLOC_TABLE_TYPE.itemsize
    expected = f"whole rows of {ALLOC_TABLE_TYPE.itemsize} bytes up to the end of the file"
    require(rest == 0, "allocation table", expected, f"{rest} bytes over")
    return header


def _full_names(stored: list[str], trailer: Trailer | None) -> list[str]:
    names = trailer.field_names if trailer is not None and trailer.field_names is not None else stored
    require(len(names) == len(stored), "trailer's field names", f"{len(stored)}", len(names))
    for name, short in zip(names, stored, strict=True):
        check_name(name)
        require(name[:NAME_BYTES] == short, "trailer's field names", f"one that begins with {short!r}", repr(name))
    require(len(set(stored)) == len(stored), "field names", "each name once", stored)
    return names


def _check_gap(table_start: int, head_bytes: int, page_bytes: int) -> None:
    """Without a trailer only whole pages, or nothing, lie between metadata and allocation table."""
    first_page = -(-head_bytes // page_bytes) * page_bytes
    whole_pages = table_start % page_bytes == 0 and table_start > first_page
    expected = f"the trailer's footer there, or the table at {head_bytes} or after whole pages"
    require(whole_pages or table_start == head_bytes, f"bytes before the table at {table_start}", expected, "neither")


def _check_rows(index: FileIndex) -> None:
    """Every row within the data, within one page, and apart from the others."""
    pointers, sizes = index.pointers, index.sizes
    known = index.sample_ids < index.header["num_samples"]
    require_all(known, "allocation table, row", "a sample of the file", lambda i: f"sample {index.sample_ids[i]}")
    filled = sizes > 0
    if not filled.all():
        pointers, sizes = pointers[filled], sizes[filled]
    if not len(pointers):
        return

    def extent(i: int) -> str:
        return f"{sizes[i]} bytes at {pointers[i]}"

    start, end = np.uint64(index.data_start), np.uint64(index.data_end)
    # Ascending order makes one comparison enough for the beginning; ends are checked without overflow.
    inside = (pointers >= start) & (pointers < end)
    inside &= sizes <= end - np.minimum(pointers, end)
    where = "allocation table, filled row"
    require_all(inside, where, f"bytes between offsets {start} and {end}", extent)
    shift = np.uint64(int(index.header["page_size"]).bit_length() - 1)
    ends = pointers + sizes
    one_page = (pointers >> shift) == ((ends - np.uint64(1)) >> shift)
    require_all(one_page, where, f"bytes within one page of {index.header['page_size']}", extent)
    apart = ends[:-1] <= pointers[1:]
    require_all(apart, where, "an end before the next row's beginning", extent)


def _find_rows(index: FileIndex, wanted: np.ndarray, where: str) -> np.ndarray | slice:
    """For each sample's pointer the (last) row that has it, which must be a row of that sample."""
    pointers, samples = index.pointers, len(wanted)
    found: np.ndarray | slice | None = None
    step = len(pointers) // samples
    if step * samples == len(pointers) and not (pointers[1:] == pointers[:-1]).any():
        # Rows that were written sample by sample: every `step`-th is this field's.
        for first in range(step):
            if pointers[first] == wanted[0] and np.array_equal(pointers[first::step], wanted):
                found = slice(first, None, step)
    if found is None:
        found = np.searchsorted(pointers, wanted, side="right") - 1
        exact = found >= 0
        exact &= pointers[found] == wanted if len(pointers) else False
        require_all(exact, where, "a pointer that the allocation table names", lambda i: f"{wanted[i]}")
    own = index.sample_ids[found] == np.arange(samples, dtype=np.uint64)
    require_all(own, where, "a pointer to a row of this sample", lambda i: f"{wanted[i]}")
    return found


def _check_images(index: FileIndex, records: np.ndarray, name: str, most_mode: int) -> None:
    where = f"field {name!r}, sample"
    mode = np.ascontiguousarray(records["mode"])
    width = records["width"].astype(np.uint64)
    height = records["height"].astype(np.uint64)
    known = ["0 (JPEG)", "1 (raw)", "2 (YUV 4:2:0)"][: most_mode + 1]
    require_all(mode <= most_mode, where, f"image mode {' or '.join(known)}", lambda i: int(mode[i]))
    require_all((width > 0) & (height > 0), where, "a width and a height", lambda i: f"{width[i]} x {height[i]}")
    sizes = index.sizes[_find_rows(index, np.ascontiguousarray(records["data_ptr"]), where)]
    raw = mode == IMAGE_MODES["raw"]
    fits = np.where(raw, sizes == width * height * np.uint64(3), sizes > 0)
    planar = mode == IMAGE_MODES["yuv420"]
    if planar.any():
        one, two = np.uint64(1), np.uint64(2)
        fits = np.where(planar, sizes == width * height + two * ((height + one) // two) * ((width + one) // two), fits)
    expected = "the bytes that a raw image's mode and size give, or a JPEG"
    require_all(fits, where, expected, lambda i: f"{sizes[i]} bytes for {width[i]} x {height[i]} in mode {mode[i]}")


def _check_bytes(index: FileIndex, records: np.ndarray, name: str) -> None:
    where = f"field {name!r}, sample"
    sizes = np.ascontiguousarray(records["size"])
    pointers = np.ascontiguousarray(records["ptr"])
    filled = sizes > 0
    if filled.all():
        stored = index.sizes[_find_rows(index, pointers, where)]
    else:
        # An empty blob points anywhere, even to where the next one begins.
        stored = np.zeros_like(sizes)
        samples = np.flatnonzero(filled)
        rows = np.searchsorted(index.pointers, pointers[samples], side="right") - 1
        safe = np.maximum(rows, 0)
        found = (rows >= 0) & (len(index.pointers) > 0)
        if len(index.pointers):
            found &= (index.pointers[safe] == pointers[samples]) & (index.sample_ids[safe] == samples.astype(np.uint64))
            stored[samples] = np.where(found, index.sizes[safe], 0)
    require_all(stored == sizes, where, "the size of the stored bytes", lambda i: f"{sizes[i]} at {pointers[i]}")


def _check_arrays(index: FileIndex, records: np.ndarray, name: str, blob_bytes: int) -> None:
    where = f"field {name!r}, sample"
    sizes = index.sizes[_find_rows(index, np.ascontiguousarray(records), where)]
    require_all(sizes == blob_bytes, where, f"{blob_bytes} bytes, as its shape says", lambda i: f"{sizes[i]}")


def _check_metadata(index: FileIndex, layouts: Sequence[FieldLayout]) -> None:
    for position, (name, layout) in enumerate(zip(index.field_names, layouts, strict=True)):
        records = index.metadata[f"f{position}"]
        if layout.kind == "image":
            _check_images(index, records, name, layout.most_mode)
        elif layout.kind == "bytes":
            _check_bytes(index, records, name)
        elif layout.kind == "array":
            _check_arrays(index, records, name, layout.blob_bytes)


def _sorted_rows(
    table: np.ndarray, checksums: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Pointers, sizes, sample numbers and checksums in ascending order of pointer, then size."""
    pointers = np.ascontiguousarray(table["ptr"])
    if bool((pointers[:-1] < pointers[1:]).all()):
        sizes, samples = np.ascontiguousarray(table["size"]), np.ascontiguousarray(table["sample_id"])
        return pointers, sizes, samples, checksums
    order = np.argsort(pointers, kind="stable")
    # Column by column: the tables of a file of nothing else are its largest part.
    pointers = pointers[order]
    if bool((pointers[:-1] == pointers[1:]).any()):
        order = np.lexsort((table["size"], table["ptr"]))
    return pointers, table["size"][order], table["sample_id"][order], None if checksums is None else checksums[order]


LayoutOf = Callable[[str, int, np.ndarray], FieldLayout]


def _read_tables(file: OpenFile, header: np.void) -> tuple[np.ndarray, np.void | None, Trailer | None]:
    """Allocation table, footer and trailer; where there is a trailer, all its checksums hold."""
    table_start = int(header["alloc_table_ptr"])
    footer = read_footer(file, table_start)
    packed = file.read(table_start, file.size - table_start, "allocation table")
    table = np.frombuffer(packed, dtype=ALLOC_TABLE_TYPE)
    if footer is None:
        return table, None, None
    check_sum(packed, footer["table_checksum"], "allocation table")
    check_sum(file.mapped(int(footer["head_bytes"])), footer["head_checksum"], "header and metadata")
    return table, footer, read_trailer(file, footer, len(table))


def _read_metadata(file: OpenFile, header: np.void, footer: np.void | None, record_type: np.dtype) -> np.ndarray:
    """The records, mapped, after it is clear that they end where they should."""
    good = not record_type.hasobject and record_type.itemsize > 0
    require(good, "metadata", "records of at least one byte and without Python objects", record_type)
    samples, table_start = int(header["num_samples"]), int(header["alloc_table_ptr"])
    start = HeaderType.itemsize + int(header["num_fields"]) * FieldDescType.itemsize
    end = start + samples * record_type.itemsize
    expected = f"room for {samples} records of {record_type.itemsize} bytes before the table"
    require(end <= table_start, "metadata", expected, f"a table at {table_start}")
    if footer is None:
        _check_gap(table_start, end, int(header["page_size"]))
    else:
        found = f"{end}; are the custom fields the ones it was written with?"
        require(end == footer["head_bytes"], "end of the metadata", f"{footer['head_bytes']}", found)
    return file.mapped(end)[start:].view(record_type)


def _open(file: OpenFile, path: str, layout_of: LayoutOf) -> FileIndex:
    header = _read_header(file)
    table, footer, trailer = _read_tables(file, header)
    packed = file.read(HeaderType.itemsize, int(header["num_fields"]) * FieldDescType.itemsize, "field descriptors")
    descriptors = np.frombuffer(packed, dtype=FieldDescType)
    names = _full_names([stored_name(raw) for raw in descriptors["name"]], trailer)
    layouts = [
        layout_of(name, int(type_id), arguments)
        for name, type_id, arguments in zip(names, descriptors["type_id"], descriptors["arguments"], strict=True)
    ]
    metadata = _read_metadata(file, header, footer, metadata_type([layout.dtype for layout in layouts]))
    pointers, sizes, sample_ids, checksums = _sorted_rows(table, None if trailer is None else trailer.row_checksums)
    index = FileIndex(
        path=path,
        local_path=str(file.handle.name),
        file_bytes=file.size,
        header=header,
        field_descriptors=descriptors,
        field_names=names,
        metadata=metadata,
        alloc_table=table,
        pointers=pointers,
        sizes=sizes,
        sample_ids=sample_ids,
        checksums=checksums,
        data_start=HeaderType.itemsize + len(packed) + metadata.nbytes,
        data_end=int(header["alloc_table_ptr"]) if footer is None else int(footer["trailer_start"]),
        trailer=trailer,
        identity=file.identity,
        digest=() if footer is None else (int(footer["head_checksum"]), int(footer["table_checksum"])),
        current_bytes=file.length_of_mapped,
    )
    _check_rows(index)
    _check_metadata(index, layouts)
    return index


class Copy(Protocol):
    """The local copy of a remote file, which gets its bytes when they are asked for.

    Attributes:
        path: where it is.
        identity: stands for device, number, size and times of change.
    """

    path: Path

    @property
    def identity(self) -> tuple[int, ...]: ...

    def ensure(self, start: int, stop: int) -> None:
        """Have the bytes between two offsets."""


def read_index(path: str | os.PathLike, layout_of: LayoutOf, copy: Copy | None = None) -> FileIndex:
    """Open a file and prove its tables right.

    Args:
        path: the file, or its address for messages.
        layout_of: called with each field's name, type id and arguments; returns its layout.
        copy: of a remote file.

    Raises:
        FormatError: the file is not a valid `.beton` file (`ChecksumError`: its tables are damaged).
        OSError: it cannot be opened or read.
    """
    path = os.fspath(path)
    with open(path if copy is None else copy.path, "rb") as handle:
        file = OpenFile(handle, None if copy is None else copy.ensure)
        if copy is not None:
            # What is fetched changes the copy's times.
            file.identity = copy.identity
        try:
            return _open(file, path, layout_of)
        except FormatError as error:
            if error.path is None and error.where is not None:
                refuse(error.where, error.expected or "", error.found, path, type(error))
            raise
