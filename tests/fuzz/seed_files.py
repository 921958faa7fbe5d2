"""Sound files that mutations start from: made ones of all kinds of fields, ones of ffx's writer, ones of FFCV's."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffx import format as beton
from ffx.format import trailer as trailer_module
from ffx.reader import Reader
from tests.ffcv_files import FFCV_FILES, unpack_ffcv_file
from tests.format.beton import PAGE, checksum_of_row, write_ffx_file
from tests.fuzz.canvas import Canvas

__all__ = ["SeedFile", "Span", "describe", "make_content", "seed_files"]

_KINDS = ("float", "int", "image", "yuv", "bytes", "array", "json", "tensor")
_TYPE_IDS = {"float": 0, "int": 1, "image": 2, "yuv": 255, "bytes": 3, "array": 4, "json": 5, "tensor": 6}
_RECORDS = {"float": np.dtype("<f8"), "int": np.dtype("<i8"), "image": beton.IMAGE_METADATA}
_RECORDS |= {"yuv": beton.IMAGE_METADATA, "bytes": beton.BYTES_METADATA, "json": beton.BYTES_METADATA}
_DTYPES = ("<f4", "<i8", "|u1", ">f8", "<c16", "|b1", "<U3", "|S5", "<M8[ns]", "<f2", "|V4")


@dataclass(frozen=True)
class Span:
    """An integer in a file: where, how many bytes, what."""

    offset: int
    width: int
    what: str


@dataclass
class SeedFile:
    """A sound file and where everything lies in it.

    Attributes:
        canvas: the file.
        spans: its integers.
        records: `(start, bytes, count)` of each of its lists: descriptors, metadata, rows of the table.
        landmarks: offsets and numbers that mean something.
        data_start, data_end, table_start: offsets.
        texts: offset of each array field's arguments.
        names: offset of each descriptor's name.
        has_trailer: whether ffx wrote it.
    """

    canvas: Canvas
    spans: list[Span]
    records: list[tuple[int, int, int]]
    landmarks: list[int]
    data_start: int
    data_end: int
    table_start: int
    texts: list[int]
    names: list[int]
    has_trailer: bool


class _Pages:
    """Stored bytes, one behind the other on pages, and their rows of the allocation table."""

    def __init__(self, start: int, generator: random.Random) -> None:
        self.start = start
        self.data = bytearray()
        self.rows: list[tuple[int, int, int]] = []
        self._generator = generator

    def store(self, sample: int, data: bytes) -> int:
        if not data and self._generator.random() < 0.5:
            return self._generator.choice([0, 7, self.start])
        pointer = self.start + len(self.data)
        self.rows.append((sample, pointer, len(data)))
        self.data += data
        return pointer


def _stored(kind: str, size: int, generator: random.Random) -> tuple[tuple, bytes]:
    """What the record says beside the pointer, and the bytes."""
    if kind == "image":
        height, width = generator.randint(1, 5), generator.randint(1, 5)
        if generator.random() < 0.3:
            return (0, width, height), generator.randbytes(generator.randint(1, 40))
        return (1, width, height), generator.randbytes(3 * height * width)
    if kind == "yuv":
        height, width = generator.randint(1, 5), generator.randint(1, 5)
        return (2, width, height), generator.randbytes(height * width + 2 * ((height + 1) // 2) * ((width + 1) // 2))
    if kind == "bytes":
        return (), generator.randbytes(generator.choice([0, 1, 9, 30]))
    if kind == "json":
        return (), json.dumps({"a": generator.randint(0, 999)}).encode()
    return (), generator.randbytes(size)


def _record(kind: str, sample: int, size: int, pages: _Pages, generator: random.Random) -> float | int | tuple:
    if kind == "float":
        return generator.random()
    if kind == "int":
        return generator.randint(-(2**63), 2**63 - 1)
    beside, data = _stored(kind, size, generator)
    pointer = pages.store(sample, data)
    if kind in ("bytes", "json"):
        return (pointer, len(data))
    return pointer if not beside else (*beside, pointer)


def make_content(generator: random.Random) -> bytes:
    """A sound file of a few samples, with a trailer or as FFCV writes it."""
    kinds = [generator.choice(_KINDS) for _ in range(generator.randint(1, 5))]
    with_trailer, samples = generator.random() < 0.6, generator.randint(1, 6)
    long = with_trailer and generator.random() < 0.4
    names = [f"{number}-{kind}" + ("-with-a-long-name" if long else "") for number, kind in enumerate(kinds)]
    arguments, sizes = [], []
    for kind in kinds:
        size = 0
        argument = beton.pack_image_extension() if kind == "yuv" else np.zeros(1024, np.uint8)
        if kind in ("array", "tensor"):
            dtype = np.dtype(generator.choice(_DTYPES))
            shape = [generator.randint(1, 3) for _ in range(generator.randint(0, 3))]
            argument, size = beton.pack_array_arguments(dtype, shape), beton.check_array_type(dtype, shape)
        arguments.append(argument)
        sizes.append(size)
    records = beton.metadata_type([_RECORDS.get(kind, beton.POINTER_METADATA) for kind in kinds])
    pages = _Pages(PAGE, generator)
    metadata = np.zeros(samples, records)
    for sample in range(samples):
        values = [_record(kind, sample, size, pages, generator) for kind, size in zip(kinds, sizes)]
        metadata[sample] = tuple(values)
    table = np.array(pages.rows, beton.ALLOC_TABLE_TYPE)
    types = [_TYPE_IDS[kind] for kind in kinds]

    def head(table_start: int) -> bytes:
        return beton.pack_head(names, types, arguments, PAGE, samples, table_start) + metadata.tobytes()

    return _assemble(head, pages, table, with_trailer, names, generator)


def _assemble(head, pages: _Pages, table, with_trailer: bool, names: list[str], generator: random.Random) -> bytes:
    start = len(head(0))
    data_end = PAGE + len(pages.data) if pages.data else start
    if not with_trailer:
        table_start = 2 * PAGE if pages.data else start
        if generator.random() < 0.3:
            generator.shuffle(rows := table.tolist())
            table = np.array(rows, beton.ALLOC_TABLE_TYPE)
        filled = head(table_start).ljust(PAGE if pages.data else start, b"\0") + bytes(pages.data)
        return filled.ljust(table_start, b"\0") + table.tobytes()
    sums = np.array([checksum_of_row(pages.data[row[1] - PAGE :][: row[2]]) for row in table.tolist()], np.uint64)
    about = beton.Trailer(sums, generator.choice([None, ["a", "b"]]), {"seed": 1}, generator.choice([None, names]))
    if any(len(name) > beton.NAME_BYTES for name in names):
        about = beton.Trailer(sums, None, {}, names)
    packed_head, tail = beton.pack_tail(data_end, table, about, head)
    filled = packed_head.ljust(PAGE, b"\0") + bytes(pages.data) if pages.data else packed_head
    return filled + tail


def _leaves(dtype: np.dtype, start: int, what: str) -> list[Span]:
    """The numbers in a record."""
    if dtype.names is None:
        return [Span(start, dtype.itemsize, what)] if dtype.subdtype is None else []
    members = [(name, *dtype.fields[name][:2]) for name in dtype.names]
    return [span for name, inner, place in members for span in _leaves(inner, start + place, f"{what} {name}")]


def _trailer_spans(canvas: Canvas, start: int, table_start: int) -> list[Span]:
    footer = trailer_module._FOOTER
    spans = _leaves(footer, table_start - footer.itemsize, "footer")
    while start < table_start - footer.itemsize:
        spans.append(Span(start, 8, "section's tag"))
        spans.append(Span(start + 8, 8, "section's length"))
        length = canvas.word(start + 8, 8)
        start += 16 + length + -length % 8
    return spans


def describe(canvas: Canvas) -> SeedFile:
    """Where everything lies in a sound file."""
    index = Reader(canvas.path).index
    table_start, fields, samples = (int(index.header[n]) for n in ("alloc_table_ptr", "num_fields", "num_samples"))
    descriptor, row, record = beton.FieldDescType.itemsize, beton.ALLOC_TABLE_TYPE.itemsize, index.metadata.dtype
    descriptors = beton.HeaderType.itemsize
    metadata, rows = descriptors + fields * descriptor, len(index.alloc_table)
    spans = _leaves(beton.HeaderType, 0, "header")
    texts, names = [], []
    for field in range(fields):
        place = descriptors + field * descriptor
        spans.append(Span(place, 1, "type number"))
        names.append(place + 1)
        arguments = place + 1 + beton.NAME_BYTES
        spans += [Span(arguments + 8 * word, 8, "arguments") for word in (0, 1, 2, 3, 31, 32)]
        if canvas.word(place, 1) in (beton.TypeId.ARRAY, beton.TypeId.TENSOR):
            texts.append(arguments)
    for sample in range(min(samples, 6)):
        spans += _leaves(record, metadata + sample * record.itemsize, "metadata")
    for number in range(min(rows, 20)):
        spans += _leaves(beton.ALLOC_TABLE_TYPE, table_start + number * row, "row")
    if index.trailer is not None:
        spans += _trailer_spans(canvas, index.data_end, table_start)
    landmarks = [0, descriptors, metadata, index.data_start, index.data_end, table_start, canvas.length, PAGE, 2 * PAGE]
    landmarks += [samples, fields, rows, table_start - trailer_module._FOOTER.itemsize]
    for pointer, size in zip(index.pointers[:20].tolist(), index.sizes[:20].tolist()):
        landmarks += [pointer, pointer + size, size]
    records = [(descriptors, descriptor, fields), (metadata, record.itemsize, samples), (table_start, row, rows)]
    return SeedFile(
        canvas, spans, records, landmarks, index.data_start, index.data_end, table_start, texts, names,
        index.trailer is not None,
    )  # fmt: skip


def seed_files(folder: Path, made: int = 60, written: bool = True) -> list[SeedFile]:
    """Seeds in a folder: `made` ones that are the same each time, and, if `written`, FFCV's and one of ffx's writer."""
    generator = random.Random(0)
    found = [describe(Canvas(folder / f"made-{number}", make_content(generator))) for number in range(made)]
    if not written:
        return found
    (sources := folder / "sources").mkdir()
    paths = [unpack_ffcv_file(name, sources)[0] for name in FFCV_FILES]
    paths.append(write_ffx_file(sources / "ffx.beton"))
    found += [describe(Canvas(folder / path.name, path.read_bytes())) for path in paths]
    for path in paths:
        path.unlink()
    return found
