"""The bytes of a `.beton` file: FFCV's version 2, and the trailer that ffx adds to it.

This package packs the parts of a file and proves a file right when it is opened; `docs/format.md`
describes the layout. It knows nothing of decoders: the reader tells it how each field's metadata are
laid out (`FieldLayout`), and it checks that every pointer and size in them leads to bytes of the file.
"""

from __future__ import annotations

from .layout import (
    ALLOC_TABLE_TYPE,
    ARGUMENT_BYTES,
    BYTES_METADATA,
    CURRENT_VERSION,
    IMAGE_METADATA,
    IMAGE_MODES,
    MAX_PAGE_BYTES,
    MIN_PAGE_BYTES,
    NAME_BYTES,
    POINTER_METADATA,
    FieldDescType,
    FieldLayout,
    HeaderType,
    TypeId,
    builtin_layout,
    check_array_type,
    check_field_names,
    check_page_size,
    is_image_extension,
    metadata_type,
    pack_array_arguments,
    pack_head,
    pack_image_extension,
    parse_array_arguments,
)
from .opening import FileIndex, read_index
from .rows import SampleRows, field_of_row, has_pointers, rows_by_sample
from .trailer import Trailer, pack_tail

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
    "FileIndex",
    "HeaderType",
    "SampleRows",
    "Trailer",
    "TypeId",
    "builtin_layout",
    "check_array_type",
    "check_field_names",
    "check_page_size",
    "field_of_row",
    "has_pointers",
    "is_image_extension",
    "metadata_type",
    "pack_array_arguments",
    "pack_head",
    "pack_image_extension",
    "pack_tail",
    "parse_array_arguments",
    "read_index",
    "rows_by_sample",
]
