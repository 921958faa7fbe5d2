"""Turn samples into stored bytes, before it is known where in the file they will lie.

A field stores pointers in its record, but a sample's place depends on all samples before it, which other
processes may still be encoding. So `malloc` gives out provisional pointers (a mark in the upper half, the
offset within the sample in the lower), and the encoder notes where in the record they went (`links`).
When the sample has its place, the links are filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FieldError
from ..fields.base import Field
from ..format import ALLOC_TABLE_TYPE, metadata_type
from ..kernels.rng import uniform
from ..kernels.xxh3 import xxh3
from .blocks import BlockPool, PartBytes

__all__ = ["LINK_TYPE", "ROW_TYPE", "Arena", "Encoder", "Part", "sample_values"]

_MARK = 0x3C9AE1B7
_MARK_BYTES = _MARK.to_bytes(4, "little")

# `sample` counts within a part; offsets count within the sample's stored bytes, `position` within its record.
ROW_TYPE = np.dtype([("sample", "<u4"), ("offset", "<u8"), ("size", "<u8"), ("checksum", "<u8")])
LINK_TYPE = np.dtype([("sample", "<u4"), ("position", "<u4"), ("offset", "<u8")])


@dataclass
class Part:
    """Some consecutive samples, encoded, without their place in the file.

    Attributes:
        sizes: stored bytes of each sample: int64[n].
        metadata: their records one after the other, links not yet filled in.
        rows: `ROW_TYPE[rows]`: one for each call of `malloc`.
        links: `LINK_TYPE[links]`: where in the records pointers stand.
        indices: each sample's index in the source, for messages: int64[n].
        stream: the stored bytes, one sample behind the other, in as many pieces as there are blocks.
        blocks: the memory in which they lie, for `BlockPool.give_back` when they are written.
    """

    sizes: np.ndarray
    metadata: bytes
    rows: np.ndarray
    links: np.ndarray
    indices: np.ndarray
    stream: list[np.ndarray] = field(default_factory=list)
    blocks: list[np.ndarray] = field(default_factory=list)

    @property
    def bytes_held(self) -> int:
        """Bytes that wait to be written."""
        return int(self.sizes.sum())

    def without_bytes(self) -> Part:
        """What the process that assigns places needs of it."""
        return Part(self.sizes, self.metadata, self.rows, self.links, self.indices)


class Arena:
    """`malloc` for the fields of one sample after another.

    Args:
        seed: decides the random draws.
        pool: where memory comes from.

    Attributes:
        sample: the sample's number, which with `seed` and `field_name` decides its random draws.
        part: the bytes of all samples of a part.
    """

    def __init__(self, seed: int, pool: BlockPool) -> None:
        self.seed = seed
        self.pool = pool
        self.part = PartBytes(pool)
        self.sample = 0
        self.field_name = ""
        self.size = 0
        self.pieces: list[np.ndarray] = []
        self.offsets: list[int] = []
        self._keys: dict[str, np.int64] = {}

    def begin(self, sample: int) -> None:
        """Forget the last sample's bytes."""
        self.sample = sample
        self.size = 0
        self.pieces, self.offsets = [], []

    def __call__(self, size: int) -> tuple[int, np.ndarray]:
        """Reserve `size` bytes: a provisional pointer, and `uint8[size]` zeros to be filled."""
        pointer, piece = self.unfilled(size)
        piece[:] = 0
        return pointer, piece

    def unfilled(self, size: int) -> tuple[int, np.ndarray]:
        """The same for a field that writes every byte: they hold anything at first, which saves a pass over them."""
        size = int(size)
        if size < 0:
            raise FieldError(f"malloc: expected a size of at least 0 bytes, found {size}")
        # An empty piece takes a byte, so that no two have the same pointer: FFCV finds sizes by pointer.
        room = self.part.reserve(max(size, 1))
        if not size:
            room[0] = 0
        piece, offset = room[:size], self.size
        self.pieces.append(piece)
        self.offsets.append(offset)
        self.size += room.size
        return (_MARK << 32) | offset, piece

    def draw(self) -> float:
        """A random number in [0, 1) that depends on nothing but seed, field name and sample number."""
        key = self._keys.get(self.field_name)
        if key is None:
            text = f"{self.seed}\x1f{self.field_name}".encode()
            digest = hashlib.blake2b(text, digest_size=8, person=b"ffx.writer").digest()
            key = self._keys[self.field_name] = np.frombuffer(digest, dtype="<i8")[0]
        return float(uniform(key, np.uint64(self.sample), 0, 0))


def sample_values(sample: Any, names: Sequence[str]) -> list[Any]:
    """A sample's values in the order of the fields.

    A sample is a tuple or list in that order, or a mapping by field name (names that begin with two
    underscores are ignored, as WebDataset has them). A data set of one field may give bare values.

    Raises:
        FieldError: it is something else, or has too few or too many values.
    """
    if isinstance(sample, Mapping):
        given = {name for name in sample if not str(name).startswith("__")}
        if given != set(names):
            raise FieldError(f"expected a mapping with the fields {', '.join(names)}; found {sorted(map(str, given))}")
        return [sample[name] for name in names]
    if isinstance(sample, (tuple, list)):
        if len(sample) != len(names):
            raise FieldError(f"expected {len(names)} values ({', '.join(names)}), found {len(sample)}")
        return list(sample)
    if len(names) == 1:
        return [sample]
    raise FieldError(f"expected a tuple or a mapping of {', '.join(names)}; found {type(sample).__name__}")


class Encoder:
    """Encodes samples into parts.

    Args:
        fields: field name -> field.
        seed: see `Arena.draw`.

    Attributes:
        pool: where a part's blocks go back to when they are written.
    """

    def __init__(self, fields: Mapping[str, Field], seed: int) -> None:
        self.names = list(fields)
        self.fields = list(fields.values())
        self.record_type = metadata_type([np.dtype(each.metadata_type) for each in self.fields])
        self.spans = [self.record_type.fields[f"f{number}"] for number in range(len(self.fields))]
        self.pool = BlockPool()
        self.arena = Arena(seed, self.pool)
        self._empty()

    def _empty(self) -> None:
        self.bytes_held = 0
        self._records: list[bytes] = []
        self._sizes: list[int] = []
        self._indices: list[int] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._links: list[tuple[int, int, int]] = []
        self.arena.part = PartBytes(self.pool)

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, number: int, index: int, sample: Any) -> None:
        """Encode one more sample.

        Args:
            number: decides its random draws.
            index: its index in the source, for messages.
            sample: what the data set gave.

        Raises:
            FieldError: it cannot be stored; the message names the field.
        """
        values = sample_values(sample, self.names)
        record = np.zeros(1, dtype=self.record_type)
        links: list[tuple[int, int]] = []
        self.arena.begin(number)
        for position, value in enumerate(values):
            try:
                links += self._encode_field(position, value, record)
            except Exception as error:
                text = str(error) if isinstance(error, FieldError) else f"{type(error).__name__}: {error}"
                raise FieldError(f"field {self.names[position]!r}: {text}") from error
        self._keep(index, record, links)

    def _encode_field(self, position: int, value: Any, record: np.ndarray) -> list[tuple[int, int]]:
        """Encode one value, and find the pointers in its record: `(position in the record, offset)`."""
        arena, start = self.arena, self.arena.size
        arena.field_name = self.names[position]
        self.fields[position].encode(record[f"f{position}"], value, arena)
        if arena.size == start:
            return []
        dtype, first = self.spans[position][:2]
        packed = record.tobytes()[first : first + dtype.itemsize]
        links = []
        at = packed.find(_MARK_BYTES, 4)
        while at >= 0:
            offset = int.from_bytes(packed[at - 4 : at], "little")
            if start <= offset <= arena.size:
                links.append((first + at - 4, offset))
            at = packed.find(_MARK_BYTES, at + 4)
        if not links:
            raise FieldError(
                f"{type(self.fields[position]).__name__}.encode reserved bytes but stored no pointer to them: "
                "the record must hold what malloc returned, as eight little-endian bytes"
            )
        return links

    def _keep(self, index: int, record: np.ndarray, links: list[tuple[int, int]]) -> None:
        arena, sample = self.arena, len(self._sizes)
        for offset, piece in zip(arena.offsets, arena.pieces, strict=True):
            self._rows.append((sample, offset, piece.size, xxh3(piece)))
        self._links += [(sample, position, offset) for position, offset in links]
        self._records.append(record.tobytes())
        self._indices.append(index)
        self._sizes.append(arena.size)
        self.bytes_held += arena.size

    def take(self) -> Part:
        """What was encoded since the last call."""
        part = Part(
            np.array(self._sizes, dtype=np.int64),
            b"".join(self._records),
            np.array(self._rows, dtype=ROW_TYPE),
            np.array(self._links, dtype=LINK_TYPE),
            np.array(self._indices, dtype=np.int64),
            self.arena.part.stream,
            self.arena.part.blocks,
        )
        self._empty()
        return part


def table_rows(rows: np.ndarray, first_sample: int, offsets: np.ndarray) -> np.ndarray:
    """Rows of the allocation table for a part whose samples lie at `offsets`."""
    table = np.zeros(len(rows), dtype=ALLOC_TABLE_TYPE)
    table["sample_id"] = rows["sample"].astype(np.uint64) + np.uint64(first_sample)
    table["ptr"] = offsets[rows["sample"]].astype(np.uint64) + rows["offset"]
    table["size"] = rows["size"]
    return table
