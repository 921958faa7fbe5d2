"""Put encoded parts, in the order of the samples, together into a file."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import FieldError, SampleError, WriterError
from ..fields.base import Field
from ..format import FieldDescType, HeaderType, Trailer, is_image_extension, pack_head, pack_tail
from ..page_allocator import Move, PageAllocator
from ..reader import FIELD_TYPES
from .encoder import Encoder, Part, table_rows
from .output import write_all

__all__ = ["Assembly", "write_part"]

_COPY_BYTES = 1 << 23
_TYPE_IDS = {field_type: number for number, field_type in FIELD_TYPES.items()}
_CUSTOM = 255


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
        self._metadata: list[bytes] = []
        self._offsets: list[np.ndarray] = []
        self._tables: list[np.ndarray] = []
        self._checksums: list[np.ndarray] = []
        self._links: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

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
        self._tables.append(table_rows(part.rows, self.samples, offsets))
        self._checksums.append(part.rows["checksum"].copy())
        samples = part.links["sample"].astype(np.int64) + self.samples
        self._links.append((samples, part.links["position"].copy(), part.links["offset"].copy()))
        self._metadata.append(part.metadata)
        self._offsets.append(offsets)
        self.samples += len(offsets)
        return offsets

    def finish(self, descriptor: int, class_names: Sequence[str] | None, settings: dict) -> None:
        """Write everything but the samples' bytes, which stand in the file already."""
        if not self.samples:
            raise WriterError("expected at least one sample, found an empty data set")
        head_bytes = self.descriptor_bytes + self.samples * self.record_bytes
        data_end, move = self.allocator.settle(head_bytes)
        offsets, table = np.concatenate(self._offsets), np.concatenate(self._tables)
        checksums = np.concatenate(self._checksums)
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
        packed = np.frombuffer(bytearray(b"".join(self._metadata)), dtype=np.uint8)
        records = packed.reshape(self.samples, self.record_bytes)
        samples, positions, within = (np.concatenate(column) for column in zip(*self._links, strict=True))
        pointers = (offsets[samples].astype(np.uint64) + within).astype("<u8").view(np.uint8).reshape(-1, 8)
        for position in np.unique(positions).tolist():
            chosen = positions == position
            columns = np.arange(position, position + 8)
            records[samples[chosen][:, None], columns] = pointers[chosen]
        return records


def _copy(descriptor: int, move: Move) -> None:
    for start in range(move.start, move.stop, _COPY_BYTES):
        data = os.pread(descriptor, min(_COPY_BYTES, move.stop - start), start)
        write_all(descriptor, [data], start + move.shift)
