"""The bytes of a `.beton` file: FFCV's version 2, and the trailer that ffx adds to it.

This module packs the parts of a file and proves a file right when it is opened; `docs/format.md`
describes the layout. It knows nothing of decoders: the reader tells it how each field's metadata are
laid out (`FieldLayout`), and it checks that every pointer and size in them leads to bytes of the file.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from .errors import ChecksumError, FieldError, FormatError
from .kernels.checksum import xxh64

__all__ = [
    "ALLOC_TABLE_TYPE",
    "ARGUMENT_BYTES",
    "BYTES_METADATA",
    "CURRENT_VERSION",
    "FieldDescType",
    "FieldLayout",
    "FileIndex",
    "HeaderType",
    "IMAGE_METADATA",
    "IMAGE_MODES",
    "MAX_PAGE_BYTES",
    "MIN_PAGE_BYTES",
    "Trailer",
    "TypeId",
    "builtin_layout",
    "check_array_type",
    "check_field_names",
    "check_page_size",
    "metadata_type",
    "pack_array_arguments",
    "pack_head",
    "pack_tail",
    "parse_array_arguments",
    "read_index",
]

CURRENT_VERSION = 2
MIN_PAGE_BYTES = 1 << 21
MAX_PAGE_BYTES = 1 << 31  # the largest power of two that the header's u4 holds
NAME_BYTES = 16
ARGUMENT_BYTES = 1024
MAX_DIMENSIONS = 32

HeaderType = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FieldDescType = np.dtype(
    [("type_id", "<u1"), ("name", "<u1", (NAME_BYTES,)), ("arguments", "<u1", (ARGUMENT_BYTES,))], align=True
)
ALLOC_TABLE_TYPE = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

IMAGE_METADATA = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
BYTES_METADATA = np.dtype([("ptr", "<u8"), ("size", "<u8")])
POINTER_METADATA = np.dtype("<u8")
IMAGE_MODES = {"jpg": 0, "raw": 1}

_ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", (MAX_DIMENSIONS,)), ("type_length", "<u8")])
# One plain element of a size that its name says: no objects, no fields, no sub-arrays.
_ELEMENT = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SUV][1-9]\d{0,5}|[mM]8(\[\d{0,6}[a-zA-Zμ]{1,2}\])?)"
)


class TypeId:
    """The numbers that say in a descriptor which field it is."""

    FLOAT = 0
    INT = 1
    IMAGE = 2
    BYTES = 3
    ARRAY = 4
    JSON = 5
    TENSOR = 6
    CUSTOM = 255


@dataclass(frozen=True)
class FieldLayout:
    """How a field's metadata are to be read.

    Attributes:
        kind: `"scalar"` (the value itself), `"image"` (mode, width, height, pointer), `"bytes"`
            (pointer, size), `"array"` (pointer to `blob_bytes` bytes) or `"opaque"` (not checked).
        dtype: the type of one sample's record.
        blob_bytes: for arrays: what each sample stores.
    """

    kind: str
    dtype: np.dtype
    blob_bytes: int = 0


@dataclass(frozen=True)
class Trailer:
    """What ffx stores beside FFCV's data.

    Attributes:
        row_checksums: XXH64 of the bytes of each row of the allocation table: uint64[rows].
        class_names: name of each class, or `None`.
        settings: what the writer was told, and the versions of what it used.
        field_names: the fields' full names (FFCV's descriptors hold 16 bytes), or `None`.
        version: the trailer's version.
    """

    row_checksums: np.ndarray
    class_names: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    field_names: list[str] | None = None
    version: int = 1


@dataclass(frozen=True)
class FileIndex:
    """A file whose tables are proved right: what every later stage relies on.

    Attributes:
        path: the file.
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
    """

    path: str
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


# --- Refusing -------------------------------------------------------------------------------------


def _refuse(where: str, expected: str, found: object, path: str | None = None, kind=FormatError) -> NoReturn:
    message = f"{path}: " if path else ""
    raise kind(f"{message}{where}: expected {expected}, found {found}", path, where, expected, str(found))


def _require(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        _refuse(where, expected, found)


def _require_all(good: np.ndarray, where: str, expected: str, found: Callable[[int], object]) -> None:
    """Refuse the first element that is not good: its index follows `where`, and `found` is asked about it."""
    if not good.all():
        first = int(np.argmin(good))
        _refuse(f"{where} {first}", expected, found(first))


# --- Types ----------------------------------------------------------------------------------------


def metadata_type(record_types: Sequence[np.dtype]) -> np.dtype:
    """A sample's record: the fields' own records as members `f0`, `f1`, … of an aligned struct."""
    return np.dtype([("", record_type) for record_type in record_types], align=True)


def check_page_size(page_size: int) -> int:
    """`page_size`, if a file may have it.

    Raises:
        FormatError: it is not a power of two between 2 MiB and 2 GiB.
    """
    size = int(page_size)
    good = MIN_PAGE_BYTES <= size <= MAX_PAGE_BYTES and size & (size - 1) == 0
    _require(good, "page_size", f"a power of two from {MIN_PAGE_BYTES} to {MAX_PAGE_BYTES}", size)
    return size


def check_array_type(dtype: np.dtype, shape: Sequence[int]) -> int:
    """Bytes of an array that a file may hold.

    Raises:
        FormatError: the type is not one plain element, or an extent or the whole is out of range.
    """
    # `descr` of what we accept is one unnamed entry; a struct's or a sub-array's is not.
    text = dtype.str
    plain = dtype.names is None and dtype.subdtype is None and not dtype.hasobject and _ELEMENT.fullmatch(text)
    _require(bool(plain), "array type", "a plain number, text or date type", dtype)
    _require(len(shape) <= MAX_DIMENSIONS, "array shape", f"at most {MAX_DIMENSIONS} dimensions", len(shape))
    size = dtype.itemsize
    for extent in shape:
        _require(
            0 < extent <= MAX_PAGE_BYTES, "array shape", "extents of at least 1 that fit into a page", tuple(shape)
        )
        size *= int(extent)
        _require(size <= MAX_PAGE_BYTES, "array size", f"at most {MAX_PAGE_BYTES} bytes", f"{tuple(shape)} of {dtype}")
    return size


def pack_array_arguments(dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    """An array field's arguments: uint8[1024] with the shape and the dtype's `descr` as JSON."""
    check_array_type(dtype, shape)
    arguments = np.zeros(1, dtype=_ARRAY_ARGUMENTS)
    description = json.dumps(dtype.descr).encode("ascii")
    arguments["shape"][0, : len(shape)] = shape
    arguments["type_length"] = len(description)
    packed = arguments.tobytes() + description
    return np.frombuffer(packed.ljust(ARGUMENT_BYTES, b"\0"), dtype=np.uint8)


def parse_array_arguments(arguments: np.ndarray) -> tuple[np.dtype, tuple[int, ...]]:
    """dtype and shape from an array field's arguments.

    Raises:
        FormatError: they name a type that is not on the allow-list, or an impossible shape.
    """
    packed = np.asarray(arguments, dtype=np.uint8).tobytes()
    head = np.frombuffer(packed, dtype=_ARRAY_ARGUMENTS, count=1)[0]
    length = int(head["type_length"])
    room = len(packed) - _ARRAY_ARGUMENTS.itemsize
    _require(0 < length <= room, "length of the array type", f"1 to {room} bytes", length)
    text = packed[_ARRAY_ARGUMENTS.itemsize :][:length]
    try:
        description = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        _refuse("array type", "a dtype's description as JSON", text[:80])
    # Exactly what a plain dtype's `descr` gives: [["", "<f4"]].
    good = isinstance(description, list) and len(description) == 1 and isinstance(description[0], list)
    good = good and len(description[0]) == 2 and description[0][0] == "" and isinstance(description[0][1], str)
    _require(bool(good) and _ELEMENT.fullmatch(description[0][1]) is not None, "array type", "a plain type", text[:80])
    try:
        dtype = np.dtype(description[0][1])
    except TypeError:
        _refuse("array type", "a type that NumPy knows", text[:80])
    shape = [int(extent) for extent in head["shape"]]
    while shape and shape[-1] == 0:
        shape.pop()
    check_array_type(dtype, shape)
    return dtype, tuple(shape)


def builtin_layout(type_id: int, arguments: np.ndarray) -> FieldLayout | None:
    """The layout of one of FFCV's own fields; `None` for a custom one."""
    if type_id == TypeId.FLOAT:
        return FieldLayout("scalar", np.dtype("<f8"))
    if type_id == TypeId.INT:
        return FieldLayout("scalar", np.dtype("<i8"))
    if type_id == TypeId.IMAGE:
        return FieldLayout("image", IMAGE_METADATA)
    if type_id in (TypeId.BYTES, TypeId.JSON):
        return FieldLayout("bytes", BYTES_METADATA)
    if type_id in (TypeId.ARRAY, TypeId.TENSOR):
        return FieldLayout("array", POINTER_METADATA, check_array_type(*parse_array_arguments(arguments)))
    _require(type_id == TypeId.CUSTOM, "field type", "0 to 6, or 255 for a custom field", type_id)
    return None


# --- Field names ----------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    steps = re.split(r"[/\\]", name)
    good = bool(name) and name.isascii() and name.isprintable() and ".." not in steps
    _require(good, "field name", "printable ASCII without '..' as a path's step", repr(name))


def check_field_names(names: Sequence[str]) -> None:
    """Refuse names that a file cannot hold.

    FFCV keeps 16 bytes of a name. Longer ones are stored in full in the trailer, but two that FFCV
    would read as the same are refused.

    Raises:
        FieldError: says which name, and why.
    """
    cut: dict[str, str] = {}
    for name in names:
        try:
            _check_name(name)
        except FormatError as error:
            raise FieldError(str(error)) from None
        other = cut.setdefault(name[:NAME_BYTES], name)
        if other is not name:
            raise FieldError(
                f"field names: expected names that differ in their first {NAME_BYTES} characters (FFCV keeps no "
                f"more), found {other!r} and {name!r}; rename one of them"
            )


def _stored_name(raw: np.ndarray) -> str:
    text = raw.tobytes()
    name, _, rest = text.partition(b"\0")
    _require(not rest.strip(b"\0"), "field name", "zeros after its end", text)
    _require(name.isascii(), "field name", "ASCII", text)
    _check_name(name.decode("ascii"))
    return name.decode("ascii")


# --- Packing --------------------------------------------------------------------------------------


def pack_head(
    names: Sequence[str],
    type_ids: Sequence[int],
    arguments: Sequence[np.ndarray],
    page_size: int,
    num_samples: int,
    alloc_table_ptr: int,
) -> bytes:
    """Header and field descriptors: the bytes from 0 to where the metadata begin."""
    header = np.zeros(1, dtype=HeaderType)
    header["version"] = CURRENT_VERSION
    header["num_fields"] = len(names)
    header["page_size"] = page_size
    header["num_samples"] = num_samples
    header["alloc_table_ptr"] = alloc_table_ptr
    descriptors = np.zeros(len(names), dtype=FieldDescType)
    for descriptor, name, type_id, argument in zip(descriptors, names, type_ids, arguments, strict=True):
        stored = name.encode("ascii")[:NAME_BYTES]
        descriptor["type_id"] = type_id
        descriptor["name"][: len(stored)] = np.frombuffer(stored, dtype=np.uint8)
        descriptor["arguments"][:] = argument
    return header.tobytes() + descriptors.tobytes()


# The trailer: sections, each an 8-byte tag, its payload's length and the payload padded to 8 bytes;
# then the footer, whose last byte stands just before the allocation table.
_MAGIC = b"\x89ffx\r\n\x1a\n"
_TRAILER_VERSION = 1
_SECTION = np.dtype([("tag", "S8"), ("length", "<u8")])
_FOOTER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("reserved", "<u4"),
        ("trailer_start", "<u8"),
        ("trailer_bytes", "<u8"),
        ("trailer_checksum", "<u8"),
        ("head_bytes", "<u8"),
        ("head_checksum", "<u8"),
        ("table_checksum", "<u8"),
        ("unused", "<u8"),
        ("footer_checksum", "<u8"),
    ]
)
_ROW_CHECKSUMS = b"rowxxh64"
_ABOUT = b"about"
_PADDING = b"padding"


def _pack_section(tag: bytes, payload: bytes) -> bytes:
    head = np.zeros(1, dtype=_SECTION)
    head["tag"] = tag
    head["length"] = len(payload)
    return head.tobytes() + payload + b"\0" * (-len(payload) % 8)


def pack_tail(
    data_end: int, table: np.ndarray, trailer: Trailer, make_head: Callable[[int], bytes]
) -> tuple[bytes, bytes]:
    """Both ends of a file, when its data pages are known.

    Args:
        data_end: where the data pages (or, without any, the metadata) end.
        table: the rows in ascending order of their pointers.
        trailer: what goes into the trailer.
        make_head: called with the allocation table's offset; gives the bytes of the file from its
            beginning to the end of the metadata.

    Returns:
        what `make_head` returned, and the bytes from `data_end` to the end of the file.
    """
    about = {"class_names": trailer.class_names, "settings": trailer.settings, "field_names": trailer.field_names}
    text = json.dumps(about, sort_keys=True).encode("ascii")
    start = data_end + (-data_end % 8)
    body = _pack_section(_ROW_CHECKSUMS, trailer.row_checksums.astype("<u8").tobytes()) + _pack_section(_ABOUT, text)
    # One damaged byte of the table's offset must never give an offset where a file without a trailer
    # has its table (a multiple of the page size): two bytes of it that such a multiple has zero are not.
    padding = 0
    while True:
        table_start = start + len(body) + _SECTION.itemsize + padding + _FOOTER.itemsize
        if table_start & 0xFF and table_start & 0xFF00:
            break
        padding += 8
    body += _pack_section(_PADDING, b"\0" * padding)
    head, packed_table = make_head(table_start), table.tobytes()
    footer = np.zeros(1, dtype=_FOOTER)
    footer["magic"] = _MAGIC
    footer["version"] = _TRAILER_VERSION
    footer["trailer_start"] = start
    footer["trailer_bytes"] = len(body)
    footer["trailer_checksum"] = xxh64(body)
    footer["head_bytes"] = len(head)
    footer["head_checksum"] = xxh64(head)
    footer["table_checksum"] = xxh64(packed_table)
    footer["footer_checksum"] = xxh64(footer.tobytes()[:-8])
    return head, b"\0" * (start - data_end) + body + footer.tobytes() + packed_table


# --- Opening --------------------------------------------------------------------------------------


class _File:
    """A file's bytes while it is being opened: reads are exact, and only within its size."""

    def __init__(self, handle) -> None:
        self.handle = handle
        self.size = os.fstat(handle.fileno()).st_size

    def read(self, start: int, count: int, what: str) -> bytes:
        _require(start + count <= self.size, what, f"{count} bytes at offset {start}", f"a file of {self.size} bytes")
        self.handle.seek(start)
        data = self.handle.read(count)
        _require(len(data) == count, what, f"{count} bytes at offset {start}", f"{len(data)}")
        return data

    def mapped(self, count: int) -> np.ndarray:
        """The first `count` bytes as a read-only array that keeps the map alive."""
        return np.frombuffer(mmap.mmap(self.handle.fileno(), count, access=mmap.ACCESS_READ), dtype=np.uint8)


def _read_header(file: _File) -> np.void:
    header = np.frombuffer(file.read(0, HeaderType.itemsize, "header"), dtype=HeaderType)[0]
    version = int(header["version"])
    _require(version == CURRENT_VERSION, "version", f"{CURRENT_VERSION}", f"{version}; is this a .beton file?")
    _require(header["num_fields"] > 0, "num_fields", "at least 1", 0)
    check_page_size(header["page_size"])
    _require(header["num_samples"] > 0, "num_samples", "at least 1", 0)
    table_start = int(header["alloc_table_ptr"])
    _require(table_start > 0, "alloc_table_ptr", "the allocation table's offset", "0: its writing was never finished")
    head_bytes = HeaderType.itemsize + int(header["num_fields"]) * FieldDescType.itemsize + int(header["num_samples"])
    good = head_bytes <= table_start <= file.size
    _require(good, "alloc_table_ptr", f"an offset from {head_bytes} to the file's {file.size} bytes", table_start)
    rest = (file.size - table_start) % ALLOC_TABLE_TYPE.itemsize
    expected = f"whole rows of {ALLOC_TABLE_TYPE.itemsize} bytes up to the end of the file"
    _require(rest == 0, "allocation table", expected, f"{rest} bytes over")
    return header


def _read_footer(file: _File, table_start: int) -> np.void | None:
    """The footer before the allocation table, checked; `None` where its magic does not stand there."""
    if table_start < _FOOTER.itemsize:
        return None
    packed = file.read(table_start - _FOOTER.itemsize, _FOOTER.itemsize, "trailer's footer")
    footer = np.frombuffer(packed, dtype=_FOOTER)[0]
    if packed[: len(_MAGIC)] != _MAGIC:
        return None
    checksum = xxh64(packed[:-8])
    if checksum != footer["footer_checksum"]:
        _refuse("trailer's footer", "its checksum", f"{checksum:#x}", kind=ChecksumError)
    version = int(footer["version"])
    _require(version == _TRAILER_VERSION, "trailer's version", f"{_TRAILER_VERSION}", f"{version}: a newer ffx?")
    end = int(footer["trailer_start"]) + int(footer["trailer_bytes"])
    _require(end == table_start - _FOOTER.itemsize, "trailer", "its end at its footer", f"an end at {end}")
    good = int(footer["head_bytes"]) <= int(footer["trailer_start"])
    _require(good, "trailer", "a beginning after the metadata", int(footer["trailer_start"]))
    return footer


def _check_sum(data: bytes | np.ndarray, expected: int, what: str) -> None:
    found = xxh64(data)
    if found != expected:
        _refuse(
            what,
            f"bytes with the checksum {int(expected):#018x}",
            f"{found:#018x}: they are damaged",
            kind=ChecksumError,
        )


def _sections(body: bytes) -> dict[bytes, bytes]:
    sections: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        good = position + _SECTION.itemsize <= len(body)
        _require(good, "trailer's section", "a tag and a length", f"{len(body) - position} bytes")
        head = np.frombuffer(body, dtype=_SECTION, count=1, offset=position)[0]
        position += _SECTION.itemsize
        length = int(head["length"])
        good = length <= len(body) - position
        _require(good, "trailer's section", f"at most {len(body) - position} bytes", length)
        sections[bytes(head["tag"])] = body[position : position + length]
        position += length + -length % 8
    return sections


def _texts(value: Any, what: str) -> list[str] | None:
    good = value is None or (isinstance(value, list) and all(isinstance(text, str) for text in value))
    _require(good, f"trailer's {what}", "a list of texts", f"{value!r:.80}")
    return value


def _read_trailer(file: _File, footer: np.void, rows: int) -> Trailer:
    body = file.read(int(footer["trailer_start"]), int(footer["trailer_bytes"]), "trailer")
    _check_sum(body, footer["trailer_checksum"], "trailer")
    sections = _sections(body)
    sums = sections.get(_ROW_CHECKSUMS, b"")
    _require(len(sums) == 8 * rows, "trailer's checksums", f"{rows}, one a row of the allocation table", len(sums) / 8)
    try:
        about = json.loads(sections.get(_ABOUT, b"{}"))
    except (ValueError, RecursionError):
        about = None
    good = isinstance(about, dict) and isinstance(about.get("settings", {}), dict)
    _require(good, "trailer's description", "a JSON object", f"{sections.get(_ABOUT, b'')[:80]!r}")
    return Trailer(
        row_checksums=np.frombuffer(sums, dtype="<u8"),
        class_names=_texts(about.get("class_names"), "class names"),
        settings=about.get("settings", {}),
        field_names=_texts(about.get("field_names"), "field names"),
        version=int(footer["version"]),
    )


def _full_names(stored: list[str], trailer: Trailer | None) -> list[str]:
    names = trailer.field_names if trailer is not None and trailer.field_names is not None else stored
    _require(len(names) == len(stored), "trailer's field names", f"{len(stored)}", len(names))
    for name, short in zip(names, stored, strict=True):
        _check_name(name)
        _require(name[:NAME_BYTES] == short, "trailer's field names", f"one that begins with {short!r}", repr(name))
    _require(len(set(stored)) == len(stored), "field names", "each name once", stored)
    return names


def _check_gap(table_start: int, head_bytes: int, page_bytes: int) -> None:
    """Without a trailer only whole pages, or nothing, lie between metadata and allocation table."""
    first_page = -(-head_bytes // page_bytes) * page_bytes
    whole_pages = table_start % page_bytes == 0 and table_start > first_page
    expected = f"the trailer's footer there, or the table at {head_bytes} or after whole pages"
    _require(whole_pages or table_start == head_bytes, f"bytes before the table at {table_start}", expected, "neither")


def _check_rows(index: FileIndex) -> None:
    """Every row within the data, within one page, and apart from the others."""
    pointers, sizes = index.pointers, index.sizes
    known = index.sample_ids < index.header["num_samples"]
    _require_all(known, "allocation table, row", "a sample of the file", lambda i: f"sample {index.sample_ids[i]}")
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
    _require_all(inside, where, f"bytes between offsets {start} and {end}", extent)
    shift = np.uint64(int(index.header["page_size"]).bit_length() - 1)
    ends = pointers + sizes
    one_page = (pointers >> shift) == ((ends - np.uint64(1)) >> shift)
    _require_all(one_page, where, f"bytes within one page of {index.header['page_size']}", extent)
    apart = ends[:-1] <= pointers[1:]
    _require_all(apart, where, "an end before the next row's beginning", extent)


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
        _require_all(exact, where, "a pointer that the allocation table names", lambda i: f"{wanted[i]}")
    own = index.sample_ids[found] == np.arange(samples, dtype=np.uint64)
    _require_all(own, where, "a pointer to a row of this sample", lambda i: f"{wanted[i]}")
    return found


def _check_images(index: FileIndex, records: np.ndarray, name: str) -> None:
    where = f"field {name!r}, sample"
    mode = np.ascontiguousarray(records["mode"])
    width = records["width"].astype(np.uint64)
    height = records["height"].astype(np.uint64)
    _require_all(mode <= 1, where, "image mode 0 (JPEG) or 1 (raw)", lambda i: int(mode[i]))
    _require_all((width > 0) & (height > 0), where, "a width and a height", lambda i: f"{width[i]} x {height[i]}")
    sizes = index.sizes[_find_rows(index, np.ascontiguousarray(records["data_ptr"]), where)]
    raw = mode == IMAGE_MODES["raw"]
    fits = np.where(raw, sizes == width * height * np.uint64(3), sizes > 0)
    expected = "3 bytes a pixel, or a JPEG"
    _require_all(fits, where, expected, lambda i: f"{sizes[i]} bytes for {width[i]} x {height[i]} in mode {mode[i]}")


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
    _require_all(stored == sizes, where, "the size of the stored bytes", lambda i: f"{sizes[i]} at {pointers[i]}")


def _check_arrays(index: FileIndex, records: np.ndarray, name: str, blob_bytes: int) -> None:
    where = f"field {name!r}, sample"
    sizes = index.sizes[_find_rows(index, np.ascontiguousarray(records), where)]
    _require_all(sizes == blob_bytes, where, f"{blob_bytes} bytes, as its shape says", lambda i: f"{sizes[i]}")


def _check_metadata(index: FileIndex, layouts: Sequence[FieldLayout]) -> None:
    for position, (name, layout) in enumerate(zip(index.field_names, layouts, strict=True)):
        records = index.metadata[f"f{position}"]
        if layout.kind == "image":
            _check_images(index, records, name)
        elif layout.kind == "bytes":
            _check_bytes(index, records, name)
        elif layout.kind == "array":
            _check_arrays(index, records, name, layout.blob_bytes)


def _sorted_rows(table: np.ndarray, checksums: np.ndarray | None) -> tuple[np.ndarray, ...]:
    pointers, sizes = np.ascontiguousarray(table["ptr"]), np.ascontiguousarray(table["size"])
    samples = np.ascontiguousarray(table["sample_id"])
    if bool((pointers[:-1] < pointers[1:]).all()):
        return pointers, sizes, samples, checksums
    order = np.argsort(pointers, kind="stable")
    if bool((np.diff(pointers[order]) == 0).any()):
        order = np.lexsort((sizes, pointers))
    return pointers[order], sizes[order], samples[order], None if checksums is None else checksums[order]


LayoutOf = Callable[[str, int, np.ndarray], FieldLayout]


def _open(file: _File, path: str, layout_of: LayoutOf) -> FileIndex:
    header = _read_header(file)
    table_start, page_bytes = int(header["alloc_table_ptr"]), int(header["page_size"])
    footer = _read_footer(file, table_start)
    packed_table = file.read(table_start, file.size - table_start, "allocation table")
    table = np.frombuffer(packed_table, dtype=ALLOC_TABLE_TYPE)
    trailer = None
    if footer is not None:
        _check_sum(packed_table, footer["table_checksum"], "allocation table")
        _check_sum(file.mapped(int(footer["head_bytes"])), footer["head_checksum"], "header and metadata")
        trailer = _read_trailer(file, footer, len(table))
    count = int(header["num_fields"])
    packed = file.read(HeaderType.itemsize, count * FieldDescType.itemsize, "field descriptors")
    descriptors = np.frombuffer(packed, dtype=FieldDescType)
    names = _full_names([_stored_name(raw) for raw in descriptors["name"]], trailer)
    layouts = [layout_of(name, int(d["type_id"]), d["arguments"]) for name, d in zip(names, descriptors, strict=True)]
    record_type = metadata_type([layout.dtype for layout in layouts])
    good = not record_type.hasobject and record_type.itemsize > 0
    _require(good, "metadata", "records of at least one byte and without Python objects", record_type)
    metadata_start = HeaderType.itemsize + len(packed)
    head_bytes = metadata_start + int(header["num_samples"]) * record_type.itemsize
    expected = f"room for {int(header['num_samples'])} records of {record_type.itemsize} bytes before the table"
    _require(head_bytes <= table_start, "metadata", expected, f"a table at {table_start}")
    if footer is None:
        _check_gap(table_start, head_bytes, page_bytes)
    else:
        found = f"{head_bytes}; are the custom fields the ones it was written with?"
        _require(head_bytes == footer["head_bytes"], "end of the metadata", f"{footer['head_bytes']}", found)
    rows = _sorted_rows(table, None if trailer is None else trailer.row_checksums)
    data_end = table_start if footer is None else int(footer["trailer_start"])
    metadata = file.mapped(head_bytes)[metadata_start:].view(record_type)
    index = FileIndex(
        path, file.size, header, descriptors, names, metadata, table, *rows, head_bytes, data_end, trailer
    )
    _check_rows(index)
    _check_metadata(index, layouts)
    return index


def read_index(path: str | os.PathLike, layout_of: LayoutOf) -> FileIndex:
    """Open a file and prove its tables right.

    Args:
        path: the file.
        layout_of: called with each field's name, type id and arguments; returns its layout.

    Raises:
        FormatError: the file is not a valid `.beton` file (`ChecksumError`: its tables are damaged).
        OSError: it cannot be opened or read.
    """
    path = os.fspath(path)
    with open(path, "rb") as handle:
        try:
            return _open(_File(handle), path, layout_of)
        except FormatError as error:
            if error.path is None and error.where is not None:
                _refuse(error.where, error.expected or "", error.found, path, type(error))
            raise
