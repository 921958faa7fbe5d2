"""Files that appear complete or not at all, whatever moment the machine chooses to fail."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["KEPT", "write_durably"]

# What the file before has as a second name while a new one takes its place.
KEPT = ".kept"
_PART_BYTES = 4 << 20


def write_durably(path: Path, content: bytes | bytearray | memoryview, keep: Path | None = None) -> None:
    """Write a file beside `path`; when its bytes are on the disk it takes the name `path`.

    What stood there before takes the name `keep`, if one is given. At no moment is there less than the two files that
    were there before, or the new one and one of them.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        _write(partial, content)
        if keep is not None and path.exists():
            _replace_and_keep(partial, path, keep)
        else:
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write(path: Path, content: bytes | bytearray | memoryview) -> None:
    with open(path, "wb") as file, memoryview(content) as view:
        file.writelines(view[start : start + _PART_BYTES] for start in range(0, len(view), _PART_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _replace_and_keep(partial: Path, path: Path, keep: Path) -> None:
    kept = path.with_name(path.name + KEPT)
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:
        # A file system without hard links: between these two lines there is one file alone.
        os.replace(path, keep)
        os.replace(partial, path)
        return
    os.replace(partial, path)
    os.replace(kept, keep)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
