"""Which rows of the allocation table belong to which sample, and to which of its fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .opening import FileIndex

__all__ = ["SampleRows", "field_of_row", "has_pointers", "rows_by_sample"]


@dataclass(frozen=True)
class SampleRows:
    """The rows of each sample, by their numbers in a `FileIndex`.

    Those of sample `i` are `rows[starts[i]:starts[i + 1]]`.

    Attributes:
        each: rows a sample where all have as many, else 0.
        starts: int64[samples + 1]; `None` where `starts[i]` is `each * i`.
        rows: int64[rows]; `None` where they stand in the order of the samples already.
    """

    each: int
    starts: np.ndarray | None
    rows: np.ndarray | None


def rows_by_sample(index: FileIndex) -> SampleRows:
    """The rows of each sample; without a table of them where the file's order allows."""
    samples, ids = int(index.header["num_samples"]), index.sample_ids
    rows = None
    if bool((ids[1:] < ids[:-1]).any()):
        rows = np.argsort(ids, kind="stable").astype(np.int64)
        ids = ids[rows]
    each = len(ids) // samples
    numbers = np.arange(samples, dtype=np.uint64)
    if each * samples == len(ids) and each:
        # In ascending order, so all between the first and the last of a sample's are its own.
        if np.array_equal(ids[::each], numbers) and np.array_equal(ids[each - 1 :: each], numbers):
            return SampleRows(each, None, rows)
    return SampleRows(0, np.searchsorted(ids, np.arange(samples + 1)).astype(np.int64), rows)


def _pointers(record: np.void | np.ndarray) -> list:
    """Whatever in a record, or a column of records, may be a pointer to stored bytes."""
    members = [record] if record.dtype.names is None else [record[member] for member in record.dtype.names]
    return [member for member in members if member.dtype == np.uint64]


def has_pointers(index: FileIndex, name: str) -> bool:
    """Whether anything is stored for a field beside its records."""
    return bool(_pointers(index.metadata[f"f{index.field_names.index(name)}"][:1]))


def field_of_row(index: FileIndex, row: int) -> str | None:
    """The field whose record points to a row; `None` where none is seen to, as in a field of a type of its own."""
    record = index.metadata[int(index.sample_ids[row])]
    for position, name in enumerate(index.field_names):
        if any(pointer == index.pointers[row] for pointer in _pointers(record[f"f{position}"])):
            return name
    return None
