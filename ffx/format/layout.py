"""The parts of FFCV's version 2: header, field descriptors, metadata records, allocation table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FieldError, FormatError
from .refusing import refuse, require

__all__ = [
    "ALLOC_TABLE_TYPE",
    "ARGUMENT_BYTES",
    "BYTES_METADATA",
    "CURRENT_VERSION",
    "IMAGE_METADATA",
    "IMAGE_MODES",
    "MAX_PAGE_BYTES",
    "MIN_PAGE_BYTES",
    "NAME_BYTES",
    "POINTER_METADATA",
    "FieldDescType",
    "FieldLayout",
    "HeaderType",
    "TypeId",
    "builtin_layout",
    "check_array_type",
    "check_field_names",
    "check_name",
    "check_page_size",
    "is_image_extension",
    "metadata_type",
    "pack_array_arguments",
    "pack_head",
    "pack_image_extension",
    "parse_array_arguments",
    "stored_name",
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
IMAGE_MODES = {"jpg": 0, "raw": 1, "yuv420": 2}

# What an image field's arguments hold where FFCV must not take it for one of its own: such a field has the type
# number of custom ones.
_EXTENSION = np.dtype([("magic", "<u1", (8,)), ("version", "<u4"), ("type_id", "<u4")])
_EXTENSION_MAGIC = np.frombuffer(b"\x89ffx\r\n+\n", dtype=np.uint8)
_EXTENSION_VERSION = 1

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
        most_mode: for images: the largest of `IMAGE_MODES` that it may have.
    """

    kind: str
    dtype: np.dtype
    blob_bytes: int = 0
    most_mode: int = IMAGE_MODES["raw"]


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
    require(good, "page_size", f"a power of two from {MIN_PAGE_BYTES} to {MAX_PAGE_BYTES}", size)
    return size


def check_array_type(dtype: np.dtype, shape: Sequence[int]) -> int:
    """Bytes of an array that a file may hold.

    Raises:
        FormatError: the type is not one plain element, or an extent or the whole is out of range.
    """
    # `descr` of what we accept is one unnamed entry; a struct's or a sub-array's is not.
    text = dtype.str
    plain = dtype.names is None and dtype.subdtype is None and not dtype.hasobject and _ELEMENT.fullmatch(text)
    require(bool(plain), "array type", "a plain number, text or date type", dtype)
    require(len(shape) <= MAX_DIMENSIONS, "array shape", f"at most {MAX_DIMENSIONS} dimensions", len(shape))
    size = dtype.itemsize
    for extent in shape:
        require(0 < extent <= MAX_PAGE_BYTES, "array shape", "extents of at least 1 that fit into a page", tuple(shape))
        size *= int(extent)
        require(size <= MAX_PAGE_BYTES, "array size", f"at most {MAX_PAGE_BYTES} bytes", f"{tuple(shape)} of {dtype}")
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
    require(0 < length <= room, "length of the array type", f"1 to {room} bytes", length)
    text = packed[_ARRAY_ARGUMENTS.itemsize :][:length]
    try:
        description = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        refuse("array type", "a dtype's description as JSON", text[:80])
    # Exactly what a plain dtype's `descr` gives: [["", "<f4"]].
    good = isinstance(description, list) and len(description) == 1 and isinstance(description[0], list)
    good = good and len(description[0]) == 2 and description[0][0] == "" and isinstance(description[0][1], str)
    require(bool(good) and _ELEMENT.fullmatch(description[0][1]) is not None, "array type", "a plain type", text[:80])
    try:
        dtype = np.dtype(description[0][1])
    except TypeError:
        refuse("array type", "a type that NumPy knows", text[:80])
    shape = [int(extent) for extent in head["shape"]]
    while shape and shape[-1] == 0:
        shape.pop()
    check_array_type(dtype, shape)
    return dtype, tuple(shape)


def pack_image_extension() -> np.ndarray:
    """Arguments of an image field whose samples may have modes that FFCV does not know: uint8[1024]."""
    head = np.zeros(1, dtype=_EXTENSION)
    head["magic"], head["version"], head["type_id"] = _EXTENSION_MAGIC, _EXTENSION_VERSION, TypeId.IMAGE
    return np.frombuffer(head.tobytes().ljust(ARGUMENT_BYTES, b"\0"), dtype=np.uint8)


def is_image_extension(arguments: np.ndarray) -> bool:
    """Whether a custom field's arguments are those of `pack_image_extension`.

    Raises:
        FormatError: they are ffx's, but of a later version, or of an unknown field, or something follows.
    """
    packed = np.asarray(arguments, dtype=np.uint8).tobytes()
    head = np.frombuffer(packed, dtype=_EXTENSION, count=1)[0]
    if not np.array_equal(head["magic"], _EXTENSION_MAGIC):
        return False
    version, type_id = int(head["version"]), int(head["type_id"])
    require(version == _EXTENSION_VERSION, "version of the field", f"{_EXTENSION_VERSION}", f"{version}; update ffx")
    require(type_id == TypeId.IMAGE, "field type", f"{TypeId.IMAGE} for an image", type_id)
    rest = packed[_EXTENSION.itemsize :]
    require(not rest.strip(b"\0"), "arguments of the field", "zeros after the field type", rest[:80])
    return True


def builtin_layout(type_id: int, arguments: np.ndarray) -> FieldLayout | None:
    """The layout of one of FFCV's own fields or of ffx's extension of one; `None` for a custom field."""
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
    require(type_id == TypeId.CUSTOM, "field type", "0 to 6, or 255 for a custom field", type_id)
    if is_image_extension(arguments):
        return FieldLayout("image", IMAGE_METADATA, most_mode=IMAGE_MODES["yuv420"])
    return None


def check_name(name: str) -> None:
    """Refuse a field name that no file should have."""
    steps = re.split(r"[/\\]", name)
    good = bool(name) and name.isascii() and name.isprintable() and ".." not in steps
    require(good, "field name", "printable ASCII without '..' as a path's step", repr(name))


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
            check_name(name)
        except FormatError as error:
            raise FieldError(str(error)) from None
        other = cut.setdefault(name[:NAME_BYTES], name)
        if other is not name:
            raise FieldError(
                f"field names: expected names that differ in their first {NAME_BYTES} characters (FFCV keeps no "
                f"more), found {other!r} and {name!r}; rename one of them"
            )


def stored_name(raw: np.ndarray) -> str:
    """The name in a descriptor's 16 bytes."""
    text = raw.tobytes()
    name, _, rest = text.partition(b"\0")
    require(not rest.strip(b"\0"), "field name", "zeros after its end", text)
    require(name.isascii(), "field name", "ASCII", text)
    check_name(name.decode("ascii"))
    return name.decode("ascii")


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
