"""Copies of files with known damage: bits of stored samples that are turned over."""

from pathlib import Path

import numpy as np

from ffx import Reader

__all__ = ["flip_payload_bits", "payload_rows"]


def payload_rows(path: Path) -> dict[int, tuple[int, int]]:
    """`(offset, bytes)` of what is stored of each sample of a file with one blob a sample."""
    table = Reader(str(path)).alloc_table
    rows = zip(table["sample_id"].tolist(), table["ptr"].tolist(), table["size"].tolist(), strict=True)
    return {sample: (pointer, size) for sample, pointer, size in rows}


def flip_payload_bits(source: Path, target: Path, samples, seed: int = 0, pointers=None) -> Path:
    """Write `target`, as `source` with one bit of each of the `samples` turned over.

    Where samples have several blobs, `pointers` says which of each.
    """
    generator, table = np.random.default_rng(seed), Reader(str(source)).alloc_table
    sizes = dict(zip(table["ptr"].tolist(), table["size"].tolist(), strict=True))
    places = (
        {sample: pointer for sample, (pointer, _) in payload_rows(source).items()} if pointers is None else pointers
    )
    content = bytearray(source.read_bytes())
    for sample in samples:
        pointer, size = places[sample], sizes[places[sample]]
        content[pointer + int(generator.integers(size))] ^= 1 << int(generator.integers(8))
    target.write_bytes(content)
    return target
