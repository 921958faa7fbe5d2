"""Open a file and hand out what is in it: names, fields, metadata, the allocation table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import FieldError, FormatError, LoaderError
from .fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField, TorchTensorField
from .fields.base import Field
from .format import (
    BYTES_METADATA,
    IMAGE_METADATA,
    IMAGE_MODES,
    POINTER_METADATA,
    FieldLayout,
    FileIndex,
    TypeId,
    builtin_layout,
    read_index,
)
from .remote import RemoteFile, RemoteOptions, is_remote

__all__ = ["FIELD_TYPES", "Reader"]

# Type number in a file's descriptors -> field.
FIELD_TYPES: dict[int, type[Field]] = {
    TypeId.FLOAT: FloatField,
    TypeId.INT: IntField,
    TypeId.IMAGE: RGBImageField,
    TypeId.BYTES: BytesField,
    TypeId.ARRAY: NDArrayField,
    TypeId.JSON: JSONField,
    TypeId.TENSOR: TorchTensorField,
}


def _layout_of_field(handler: Field) -> FieldLayout:
    """How a custom field's records lie; those of a subclass of one of ours are checked like ours."""
    dtype = np.dtype(handler.metadata_type)
    if isinstance(handler, RGBImageField) and dtype == IMAGE_METADATA:
        return FieldLayout("image", dtype, most_mode=IMAGE_MODES[handler.raw_mode])
    if isinstance(handler, BytesField) and dtype == BYTES_METADATA:
        return FieldLayout("bytes", dtype)
    if isinstance(handler, NDArrayField) and dtype == POINTER_METADATA:
        return FieldLayout("array", dtype, int(handler.element_size))
    return FieldLayout("opaque", dtype)


class Reader:
    """An open file, its tables proved right.

    Args:
        fname: the file; an address (`https://…`, `s3://…`, …) of one is read through a cache on the local disk.
        custom_fields: field name -> `Field` class, for fields of your own (and to read another field
            with a class of your own).
        remote: how a file behind an address is read and kept; `None`: as `RemoteOptions()`.

    Attributes:
        file_name: the path as given; an address without credentials.
        local_path: where the bytes are: `file_name`, or the cached copy.
        remote: the `RemoteFile`, or `None` for a local file.
        num_samples: samples in the file.
        num_fields: fields of each.
        page_size: bytes of a page.
        header, field_descriptors: as `ffx.format` defines them.
        field_names: in the file's order, in full.
        handlers: field name -> `Field`.
        metadata_type: dtype of a sample's record.
        metadata: `metadata_type[num_samples]`, read-only, mapped; member `f0` belongs to the first field.
        alloc_table: `ALLOC_TABLE_TYPE[rows]` in the file's order.
        class_names: each class's name, or `None`.
        settings: what the writer noted: see `ffx.writer`; empty for a file without a trailer.
        has_checksums: whether the file has a checksum for each row of the allocation table.
        index: everything that `ffx.format` proved, `pointers`, `sizes` and `checksums` among it.

    Raises:
        FormatError: the file is not a valid `.beton` file, or a custom field is not named.
        OSError: the file cannot be opened (`RemoteError`: nor reached).
        LoaderError: `remote` is given for a local file.
    """

    def __init__(
        self,
        fname: str | os.PathLike,
        custom_fields: Mapping[str, type[Field]] | None = None,
        remote: RemoteOptions | None = None,
    ) -> None:
        self._fname = os.fspath(fname)
        self.remote: RemoteFile | None = None
        if is_remote(self._fname):
            self.remote = RemoteFile(self._fname, remote or RemoteOptions())
            self._fname = self.remote.address
        elif remote is not None:
            raise LoaderError(f"{self._fname}: expected an address (scheme://…) for remote=, found a local path")
        self._custom_fields = dict(custom_fields or {})
        self.handlers: dict[str, Field] = {}
        self.index = self._read_index() if self.remote is None else self._read_remote_index(self.remote)
        self.header = self.index.header
        self.num_samples = int(self.header["num_samples"])
        self.num_fields = int(self.header["num_fields"])
        self.page_size = int(self.header["page_size"])
        self.field_descriptors = self.index.field_descriptors
        self.field_names = self.index.field_names
        self.metadata = self.index.metadata
        self.metadata_type = self.metadata.dtype
        self.alloc_table = self.index.alloc_table
        trailer = self.index.trailer
        self.class_names: list[str] | None = None if trailer is None else trailer.class_names
        self.settings: dict[str, Any] = {} if trailer is None else trailer.settings
        self.has_checksums = trailer is not None

    @property
    def file_name(self) -> str:
        """The path as it was given; an address without credentials."""
        return self._fname

    @property
    def local_path(self) -> str:
        """Where the bytes are."""
        return self.index.local_path

    def _read_index(self) -> FileIndex:
        return read_index(self._fname, self._layout_of, self.remote)

    def _read_remote_index(self, remote: RemoteFile) -> FileIndex:
        with remote.opening():
            try:
                index = self._read_index()
            except FormatError:
                # Perhaps on the way only, or on the disk.
                remote.forget_tables()
                self.handlers.clear()
                index = self._read_index()
            remote.finish(index)
        return index

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {type(handler).__name__}" for name, handler in self.handlers.items())
        return f"Reader({self._fname!r}, {self.num_samples} samples, {fields})"

    def _layout_of(self, name: str, type_id: int, arguments: np.ndarray) -> FieldLayout:
        custom = self._custom_fields.get(name)
        if custom is not None:
            try:
                handler = custom.from_binary(arguments)
                layout = _layout_of_field(handler)
            except Exception as error:
                raise FormatError(
                    f"{self._fname}: field {name!r}: {custom.__name__}.from_binary refused its description: "
                    f"{type(error).__name__}: {error}",
                    self._fname,
                    f"field {name!r}",
                ) from error
            self.handlers[name] = handler
            return layout
        layout_or_none = builtin_layout(type_id, arguments)
        where, example = f"field {name!r}", f"custom_fields={{{name!r}: YourField}}"
        if layout_or_none is None:
            message = f"{self._fname}: {where} is a custom field: name its class, {example}"
            raise FormatError(message, self._fname, where, "its class in custom_fields", "none")
        try:
            # Of the custom numbers only ffx's own extension, an image, has a layout by itself.
            self.handlers[name] = FIELD_TYPES.get(type_id, RGBImageField).from_binary(arguments)
        except FieldError as error:
            raise FormatError(f"{self._fname}: {where}: {error}", self._fname, where) from error
        return layout_or_none
