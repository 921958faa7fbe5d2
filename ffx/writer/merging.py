"""Several files as one: the shards of a data set, which were written by one job each.

Each sample gets the place that the writer would have given it, and its stored bytes are copied there by the system, so
the file is the very one that a single run would have written.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError, WriterError
from ..format import BYTES_METADATA, IMAGE_METADATA, POINTER_METADATA, FileIndex
from ..reader import Reader
from .assembly import Assembly
from .encoder import LINK_TYPE, ROW_TYPE, Part
from .output import AtomicFile, write_all

__all__ = ["merge_files"]

# So many samples are looked at together: their tables take a few megabytes.
_SAMPLES_A_PART = 1 << 15
_COPY_BYTES = 1 << 23
# Where the pointer stands in a record of this type.
_POINTERS = {
    IMAGE_METADATA: IMAGE_METADATA.fields["data_ptr"][1],
    BYTES_METADATA: BYTES_METADATA.fields["ptr"][1],
    POINTER_METADATA: 0,
}
# A pair of files that the system does not copy between; its kernel is too old for the call.
_NO_COPY = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EBADF)


def merge_files(
    target: str | os.PathLike,
    sources: Sequence[str | os.PathLike],
    on_progress: Callable[[int], object] = lambda samples: None,
) -> int:
    """Write one file with the samples of several, and their checksums and class names.

    Shards (`DatasetWriter.from_indexed_dataset(shard=…)`) are put in their own order and must be complete: the file is
    then, byte by byte, the one that a single run would have written. Other files of ffx follow each other as given. The
    target appears complete and durable, or not at all; nothing is held in memory but the tables.

    Args:
        target: path of the file.
        sources: the files, at least one. They are left as they are.
        on_progress: called with the number of samples each time that some more stand in the file.

    Returns:
        the number of samples.

    Raises:
        FormatError: a source is no valid file.
        WriterError: the sources do not fit together, or the file cannot be written.
        OSError: a source cannot be opened.
    """
    if not sources:
        raise WriterError("expected at least one file to merge, found none")
    readers = [_open(source) for source in sources]
    for reader in readers:
        if Path(os.path.realpath(reader.file_name)) == Path(os.path.realpath(target)):
            raise WriterError(f"{os.fspath(target)}: expected a path of its own for the merged file, found a source")
    first = readers[0]
    for reader in readers[1:]:
        _check_alike(first, reader)
    settings, page_size = dict(first.settings), None
    if "shard" in settings:
        readers = _in_order(readers)
        page_size = _shard(first)[2]
        del settings["shard"]
    samples = sum(reader.num_samples for reader in readers)
    with AtomicFile(target) as output:
        assembly = Assembly(first.handlers, samples, page_size)
        for reader in readers:
            _append(reader, assembly, output.descriptor, on_progress)
        assembly.finish(output.descriptor, first.class_names, settings)
        _check_written(output, first)
        output.commit()
    return samples


def _open(source: str | os.PathLike) -> Reader:
    try:
        reader = Reader(source)
    except FormatError as error:
        if error.found == "none" and error.expected == "its class in custom_fields":
            raise WriterError(
                f"{os.fspath(source)}: {error.where} is a custom field, and where its records hold pointers only "
                "its class knows: such files cannot be merged"
            ) from error
        raise
    if not reader.has_checksums:
        raise WriterError(f"{reader.file_name}: expected a file that ffx wrote, found one without checksums")
    return reader


def _check_alike(first: Reader, other: Reader) -> None:
    """Refuse a file that was not written in the same way."""
    for what, one, two in (
        ("fields", first.field_names, other.field_names),
        ("types of the fields", first.field_descriptors.tobytes(), other.field_descriptors.tobytes()),
        ("class names", first.class_names, other.class_names),
        *_leaves(first.settings, other.settings, "settings"),
    ):
        if one != two:
            shown = "" if isinstance(one, bytes) else f": {_short(one)} and {_short(two)}"
            raise WriterError(
                f"{first.file_name} and {other.file_name} do not fit together: they have different {what}{shown}"
            )


def _leaves(one: Any, two: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """What settings hold, side by side; not where in the whole a shard lies."""
    if not (isinstance(one, dict) and isinstance(two, dict)):
        yield name, one, two
        return
    for key in sorted(one.keys() | two.keys()):
        if name != "settings.shard" or key != "first":
            yield from _leaves(one.get(key), two.get(key), f"{name}.{key}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _shard(reader: Reader) -> tuple[int, int, int | None]:
    """First sample, samples of the whole, and the page size that was asked for."""
    shard = reader.settings["shard"]
    values = [shard.get(name) for name in ("first", "samples", "page_size")] if isinstance(shard, dict) else []
    if not (values and all(isinstance(value, int) for value in values[:2]) and isinstance(values[2], int | None)):
        raise WriterError(f"{reader.file_name}: expected where in the whole this shard lies, found {_short(shard)}")
    return values[0], values[1], values[2]


def _in_order(readers: list[Reader]) -> list[Reader]:
    """The shards of a data set, all of them, in its order."""
    readers = sorted(readers, key=lambda reader: _shard(reader)[0])
    samples, position = _shard(readers[0])[1], 0
    for reader in readers:
        first = _shard(reader)[0]
        if first < position:
            raise WriterError(f"{reader.file_name}: expected a shard from sample {position} on, found one from {first}")
        if first > position:
            raise WriterError(f"expected all shards, found none with the samples {position} to {first - 1}")
        position += reader.num_samples
    if position != samples:
        raise WriterError(f"expected all shards, found none with the samples {position} to {samples - 1}")
    return readers


def _append(reader: Reader, assembly: Assembly, target: int, advance: Callable[[int], object]) -> None:
    """Add a file's samples behind those that are there."""
    index = reader.index
    # In ascending order of their pointers already; of one sample they stay so.
    order = np.argsort(index.sample_ids, kind="stable")
    starts = np.searchsorted(index.sample_ids[order], np.arange(reader.num_samples + 1))
    with open(reader.file_name, "rb", buffering=0) as file:
        for begin in range(0, reader.num_samples, _SAMPLES_A_PART):
            end = min(begin + _SAMPLES_A_PART, reader.num_samples)
            part, places = _part(index, begin, end, order, starts)
            offsets = assembly.accept(part)
            for run in _runs(places, offsets, part.sizes):
                _copy_range(file, target, *run)
            advance(end - begin)


def _part(index: FileIndex, begin: int, end: int, order: np.ndarray, starts: np.ndarray) -> tuple[Part, np.ndarray]:
    """Samples of a file as the encoder would give them but for their bytes, and where those lie: int64[n]."""
    chosen = order[starts[begin] : starts[end]]
    counts = np.diff(starts[begin : end + 1])
    sample = np.repeat(np.arange(end - begin), counts)
    pointers = index.pointers[chosen].astype(np.int64)
    # What is empty has a byte of its own.
    rooms = np.maximum(index.sizes[chosen].astype(np.int64), 1)
    places, sizes = np.zeros(end - begin, np.int64), np.zeros(end - begin, np.int64)
    filled = counts > 0
    places[filled] = pointers[(starts[begin:end] - starts[begin])[filled]]
    np.add.at(sizes, sample, rooms)
    rows = np.zeros(len(chosen), ROW_TYPE)
    rows["sample"], rows["offset"] = sample, pointers - places[sample]
    rows["size"] = index.sizes[chosen]
    assert index.checksums is not None
    rows["checksum"] = index.checksums[chosen]
    records = index.metadata[begin:end]
    links = _links(records, places)
    numbers = np.arange(begin, end, dtype=np.int64)
    _check_contiguous(index, rows, places, sizes, begin)
    return Part(sizes, records.tobytes(), rows, links, numbers), places


def _check_contiguous(index: FileIndex, rows: np.ndarray, places: np.ndarray, sizes: np.ndarray, begin: int) -> None:
    """The writer lays a sample's pieces one behind the other; only then is it known where each may go."""
    ends = rows["offset"].astype(np.int64) + np.maximum(rows["size"].astype(np.int64), 1)
    wrong = ends > sizes[rows["sample"]]
    if wrong.any():
        number = begin + int(rows["sample"][int(np.argmax(wrong))])
        raise WriterError(f"{index.path}: sample {number}: expected its bytes in one piece, found gaps between them")


def _links(records: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where in the records pointers stand, and to where in their sample they lead."""
    found = []
    for member in records.dtype.names:
        dtype, first = records.dtype.fields[member][:2]
        if dtype not in _POINTERS:
            continue
        position = _POINTERS[dtype]
        values = records[member] if dtype.names is None else records[member][_name_at(dtype, position)]
        links = np.zeros(len(records), LINK_TYPE)
        links["sample"], links["position"] = np.arange(len(records)), first + position
        links["offset"] = values.astype(np.int64) - places
        found.append(links)
    return np.concatenate(found) if found else np.zeros(0, LINK_TYPE)


def _name_at(dtype: np.dtype, position: int) -> str:
    return next(name for name in dtype.names if dtype.fields[name][1] == position)


def _runs(places: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """`(from, to, bytes)` of what lies one behind the other in both files."""
    filled = sizes > 0
    places, offsets, sizes = places[filled], offsets[filled], sizes[filled]
    if not len(sizes):
        return
    gaps = (places[1:] != places[:-1] + sizes[:-1]) | (offsets[1:] != offsets[:-1] + sizes[:-1])
    for first, stop in itertools.pairwise((0, *(np.flatnonzero(gaps) + 1).tolist(), len(sizes))):
        yield int(places[first]), int(offsets[first]), int(sizes[first:stop].sum())


def _copy_range(file: FileIO, target: int, start: int, place: int, size: int) -> None:
    """Copy bytes from file to file: by the system alone, where it can."""
    source = file.fileno()
    while size and hasattr(os, "copy_file_range"):
        try:
            done = os.copy_file_range(source, target, size, start, place)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            break
        if not done:
            break
        start, place, size = start + done, place + done, size - done
    while size:
        data = os.pread(source, min(_COPY_BYTES, size), start)
        if not data:
            raise WriterError(f"{file.name}: became shorter while it was merged")
        write_all(target, [data], place)
        start, place, size = start + len(data), place + len(data), size - len(data)


def _check_written(output: AtomicFile, first: Reader) -> None:
    """Open what was written as anybody would; its fields must be described as they were."""
    assert output.temporary is not None
    written = Reader(output.temporary)
    if written.field_descriptors.tobytes() != first.field_descriptors.tobytes():
        raise WriterError(f"{first.file_name}: its fields are described in another way than this version of ffx does")
