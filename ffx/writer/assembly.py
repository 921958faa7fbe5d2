"""Put encoded parts, in the order of the samples, together into a file."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import FieldError, SampleError, WriterError
from ..fields.base import Field
from ..format import ALLOC_TABLE_TYPE, FieldDescType, HeaderType, Trailer, is_image_extension, pack_head, pack_tail
from ..page_allocator import Move, PageAllocator
from ..reader import FIELD_TYPES
from .encoder import Encoder, Part, table_rows
from .output import write_all

__all__ = ["Assembly", "write_part"]

_COPY_BYTES = 1 << 23
_TYPE_IDS = {field_type: number for number, field_type in FIELD_TYPES.items()}
_CUSTOM = 255
# As `encoder.LINK_TYPE`, but `sample` counts within the file.
_LINK_TYPE = np.dtype([("sample", "<i8"), ("position", "<u4"), ("offset", "<u8")])


def write_part(descriptor: int, offsets: np.ndarray, sizes: np.ndarray, stream: Sequence[np.ndarray]) -> None:
    """Write samples of `sizes` bytes, which lie one behind the other in `stream`, to their `offsets`.

    Neighbours go out in one call.
    """
    if not len(sizes):
        return
    ends = offsets + sizes
    gaps = np.flatnonzero(offsets[1:] != ends[:-1]) + 1
    pieces = deque(stream)
    for first, stop in itertools.pairwise((0, *gaps.tolist(), len(sizes))):
        write_all(descriptor, _cut(pieces, int(sizes[first:stop].sum())), int(offsets[first]))


def _cut(pieces: deque[np.ndarray], size: int) -> list[np.ndarray]:
    """Take the first `size` bytes away."""
    taken = []
    while size:
        piece = pieces.popleft()
        if piece.size > size:
            pieces.appendleft(piece[size:])
            piece = piece[:size]
        taken.append(piece)
        size -= piece.size
    return taken


class _Column:
    """Values that become more and more, one behind the other: no object for each part, little room to spare."""

    def __init__(self, dtype: np.dtype | str) -> None:
        self._array = np.empty(0, dtype=dtype)
        self._length = 0

    def extend(self, values: np.ndarray) -> None:
        start, stop = self._length, self._length + len(values)
        if stop > len(self._array):
            # Large arrays grow where they are or move by pages; neither copies them.
            self._array.resize(stop + stop // 8 + 1024, refcheck=False)
        self._array[start:stop] = values
        self._length = stop

    @property
    def values(self) -> np.ndarray:
        return self._array[: self._length]


class Assembly:
    """Gives parts their places and keeps what the tables need.

    Args:
        fields: field name -> field.
        length: number of samples, or `None` where it shows at the end.
        page_size: bytes of a page, or `None` to choose.
    """

    def __init__(self, fields: Mapping[str, Field], length: int | None, page_size: int | None) -> None:
        self.fields = fields
        self.record_bytes = Encoder(fields, 0).record_type.itemsize
        self.descriptor_bytes = HeaderType.itemsize + len(fields) * FieldDescType.itemsize
        self.allocator = PageAllocator(self.descriptor_bytes + (length or 0) * self.record_bytes, page_size)
        self.samples = 0
        self._metadata = _Column(f"V{self.record_bytes}")
        self._offsets = _Column("<i8")
        self._table = _Column(ALLOC_TABLE_TYPE)
        self._checksums = _Column("<u8")
        self._links = _Column(_LINK_TYPE)

    def accept(self, part: Part) -> np.ndarray:
        """Places for the next samples of the file: int64[n] offsets.

        Raises:
            SampleError: one does not fit into a page.
        """
        offsets = np.empty(len(part.sizes), dtype=np.int64)
        for number, size in enumerate(part.sizes.tolist()):
            try:
                offsets[number] = self.allocator.place(size)
            except FieldError as error:
                index = int(part.indices[number])
                raise SampleError(f"sample {index}: {error}", index) from error
        links = np.empty(len(part.links), dtype=_LINK_TYPE)
        links["sample"] = part.links["sample"].astype(np.int64) + self.samples
        links["position"], links["offset"] = part.links["position"], part.links["offset"]
        self._table.extend(table_rows(part.rows, self.samples, offsets))
        self._checksums.extend(part.rows["checksum"])
        self._links.extend(links)
        self._metadata.extend(np.frombuffer(part.metadata, dtype=f"V{self.record_bytes}"))
        self._offsets.extend(offsets)
        self.samples += len(offsets)
        return offsets

    def finish(self, descriptor: int, class_names: Sequence[str] | None, settings: dict) -> None:
        """Write everything but the samples' bytes, which stand in the file already."""
        if not self.samples:
            raise WriterError("expected at least one sample, found an empty data set")
        head_bytes = self.descriptor_bytes + self.samples * self.record_bytes
        data_end, move = self.allocator.settle(head_bytes)
        offsets, table, checksums = self._offsets.values, self._table.values, self._checksums.values
        if move is not None:
            _copy(descriptor, move)
            offsets = np.where(offsets < move.stop, offsets + move.shift, offsets)
            moved = table["ptr"] < move.stop
            table["ptr"][moved] += np.uint64(move.shift)
            # Both parts are ascending; the one that moved comes last now.
            order = np.concatenate([np.flatnonzero(~moved), np.flatnonzero(moved)])
            table, checksums = table[order], checksums[order]
        metadata = self._linked_metadata(offsets)
        names = list(self.fields)
        trailer = Trailer(checksums, None if class_names is None else list(class_names), settings, names)

        def make_head(table_start: int) -> bytes:
            return self._head(table_start) + metadata.tobytes()

        head, tail = pack_tail(data_end, table, trailer, make_head)
        blank = b"" if move is None else bytes(max(0, move.stop - len(head)))
        write_all(descriptor, [tail], data_end)
        write_all(descriptor, [head, blank], 0)

    def _head(self, table_start: int) -> bytes:
        fields = self.fields.values()
        arguments = [np.frombuffer(field.to_binary().tobytes(), dtype=np.uint8) for field in fields]
        # What FFCV cannot read must not have one of its numbers.
        type_ids = [
            _CUSTOM if is_image_extension(argument) else _TYPE_IDS.get(type(field), _CUSTOM)
            for field, argument in zip(fields, arguments, strict=True)
        ]
        return pack_head(list(self.fields), type_ids, arguments, self.allocator.page_size, self.samples, table_start)

    def _linked_metadata(self, offsets: np.ndarray) -> np.ndarray:
        """All records, `uint8[samples, record_bytes]`, with pointers into the file."""
        records = self._metadata.values.view(np.uint8).reshape(self.samples, self.record_bytes)
        links = self._links.values
        for position in np.unique(links["position"]).tolist():
            chosen = links[links["position"] == position]
            pointers = np.ndarray(self.samples, "<u8", records.data, position, (self.record_bytes,))
            pointers[chosen["sample"]] = offsets[chosen["sample"]].astype(np.uint64) + chosen["offset"]
        return records


def _copy(descriptor: int, move: Move) -> None:
    for start in range(move.start, move.stop, _COPY_BYTES):
        data = os.pread(descriptor, min(_COPY_BYTES, move.stop - start), start)
        write_all(descriptor, [data], start + move.shift)
