"""What ffx adds between the data pages and the allocation table, where FFCV never looks.

The trailer is a row of sections, each an 8-byte tag, its payload's length and the payload padded to 8
bytes; the footer, of fixed size, ends just before the allocation table and says where the trailer begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ChecksumError
from ..kernels.checksum import xxh64
from .file import OpenFile
from .refusing import check_sum, refuse, require

__all__ = ["Trailer", "pack_tail", "read_footer", "read_trailer"]

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
_ROW_CHECKSUMS = b"rowxxh3"
_ABOUT = b"about"
_PADDING = b"padding"
# Far more than any version has; without a limit a file of zeros would be some millions of them.
_MOST_SECTIONS = 32


@dataclass(frozen=True)
class Trailer:
    """What ffx stores beside FFCV's data.

    Attributes:
        row_checksums: XXH3 (64 bits, seed 0) of the bytes of each row of the allocation table: uint64[rows].
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
    body = _padded(body, start)
    table_start = start + len(body) + _FOOTER.itemsize
    head, packed_table = make_head(table_start), table.tobytes()
    return head, b"\0" * (start - data_end) + body + _pack_footer(start, body, head, packed_table) + packed_table


def _padded(body: bytes, start: int) -> bytes:
    """A trailer that begins at `start`, with padding for the sake of the table's offset.

    One damaged byte of that offset must never give one where a file without a trailer has its table (a
    multiple of the page size): two bytes of it that are zero in such a multiple are not zero in ours.
    """
    padding = 0
    while True:
        table_start = start + len(body) + _SECTION.itemsize + padding + _FOOTER.itemsize
        if table_start & 0xFF and table_start & 0xFF00:
            return body + _pack_section(_PADDING, b"\0" * padding)
        padding += 8


def _pack_footer(start: int, body: bytes, head: bytes, packed_table: bytes) -> bytes:
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
    return footer.tobytes()


def read_footer(file: OpenFile, table_start: int) -> np.void | None:
    """The footer before the allocation table, checked; `None` where its magic does not stand there."""
    if table_start < _FOOTER.itemsize:
        return None
    packed = file.read(table_start - _FOOTER.itemsize, _FOOTER.itemsize, "trailer's footer")
    footer = np.frombuffer(packed, dtype=_FOOTER)[0]
    if packed[: len(_MAGIC)] != _MAGIC:
        return None
    checksum = xxh64(packed[:-8])
    if checksum != footer["footer_checksum"]:
        refuse("trailer's footer", "its checksum", f"{checksum:#x}", kind=ChecksumError)
    version = int(footer["version"])
    require(version == _TRAILER_VERSION, "trailer's version", f"{_TRAILER_VERSION}", f"{version}: a newer ffx?")
    end = int(footer["trailer_start"]) + int(footer["trailer_bytes"])
    require(end == table_start - _FOOTER.itemsize, "trailer", "its end at its footer", f"an end at {end}")
    good = int(footer["head_bytes"]) <= int(footer["trailer_start"])
    require(good, "trailer", "a beginning after the metadata", int(footer["trailer_start"]))
    return footer


def _sections(body: bytes) -> dict[bytes, bytes]:
    sections: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        require(len(sections) < _MOST_SECTIONS, "trailer's section", f"at most {_MOST_SECTIONS} of them", "more")
        good = position + _SECTION.itemsize <= len(body)
        require(good, "trailer's section", "a tag and a length", f"{len(body) - position} bytes")
        head = np.frombuffer(body, dtype=_SECTION, count=1, offset=position)[0]
        position += _SECTION.itemsize
        length = int(head["length"])
        good = length <= len(body) - position
        require(good, "trailer's section", f"at most {len(body) - position} bytes", length)
        tag = bytes(head["tag"])
        require(tag not in sections, "trailer's section", "each tag once", tag)
        sections[tag] = body[position : position + length]
        position += length + -length % 8
    return sections


def _texts(value: Any, what: str) -> list[str] | None:
    good = value is None or (isinstance(value, list) and all(isinstance(text, str) for text in value))
    require(good, f"trailer's {what}", "a list of texts", f"{value!r:.80}")
    return value


def read_trailer(file: OpenFile, footer: np.void, rows: int) -> Trailer:
    """The trailer that a footer leads to, for an allocation table of `rows` rows."""
    body = file.read(int(footer["trailer_start"]), int(footer["trailer_bytes"]), "trailer")
    check_sum(body, footer["trailer_checksum"], "trailer")
    sections = _sections(body)
    sums = sections.get(_ROW_CHECKSUMS, b"")
    require(len(sums) == 8 * rows, "trailer's checksums", f"{rows}, one a row of the allocation table", len(sums) / 8)
    try:
        about = json.loads(sections.get(_ABOUT, b"{}"))
    except (ValueError, RecursionError):
        about = None
    good = isinstance(about, dict) and isinstance(about.get("settings", {}), dict)
    require(good, "trailer's description", "a JSON object", f"{sections.get(_ABOUT, b'')[:80]!r}")
    return Trailer(
        row_checksums=np.frombuffer(sums, dtype="<u8"),
        class_names=_texts(about.get("class_names"), "class names"),
        settings=about.get("settings", {}),
        field_names=_texts(about.get("field_names"), "field names"),
        version=int(footer["version"]),
    )
