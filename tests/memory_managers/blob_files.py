"""Small files of blobs, described by an allocation table, for storages: no header, no fields."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ffx.format import ALLOC_TABLE_TYPE

__all__ = ["PAGE_BYTES", "blob_reader", "write_blobs"]

PAGE_BYTES = 256


def blob_reader(path: Path, rows, num_samples: int, page_bytes: int = PAGE_BYTES) -> SimpleNamespace:
    """What a storage asks of a reader; `rows` are `(sample, offset, size)`."""
    table = np.zeros(len(rows), dtype=ALLOC_TABLE_TYPE)
    for row, (sample, pointer, size) in zip(table, rows, strict=True):
        row["sample_id"], row["ptr"], row["size"] = sample, pointer, size
    order = np.lexsort((table["size"], table["ptr"]))
    status = path.stat() if path.exists() else None
    index = SimpleNamespace(
        pointers=np.ascontiguousarray(table["ptr"][order]),
        sizes=np.ascontiguousarray(table["size"][order]),
        current_bytes=lambda: path.stat().st_size,
        identity=None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns),
    )
    return SimpleNamespace(
        file_name=str(path),
        local_path=str(path),
        page_size=page_bytes,
        num_samples=num_samples,
        alloc_table=table,
        index=index,
    )


def write_blobs(path: Path, sizes, page_bytes: int = PAGE_BYTES, seed: int = 0) -> SimpleNamespace:
    """Write random bytes, one blob a sample of the given sizes, none across a page's end; the reader."""
    rows, position = [], page_bytes
    for sample, size in enumerate(sizes):
        if position % page_bytes + size > page_bytes:
            position += page_bytes - position % page_bytes
        rows.append((sample, position, size))
        position += size
    total = -(-position // page_bytes) * page_bytes
    path.write_bytes(np.random.default_rng(seed).bytes(total))
    return blob_reader(path, rows, len(rows), page_bytes)
