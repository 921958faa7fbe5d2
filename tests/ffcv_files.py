"""Small files that FFCV 1.0.2 itself wrote, with what its own loader reads from them.

`tests/fixtures/make_ffcv_files.py` made them; its docstring says what the arrays are.
"""

import gzip
from pathlib import Path

import numpy as np

__all__ = ["FFCV_FILES", "unpack_ffcv_file"]

_FOLDER = Path(__file__).parent / "fixtures"
FFCV_FILES = ("raw", "jpg", "mixed", "scalars", "blobs", "empty", "onlyempty")


def unpack_ffcv_file(name: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Unpack a file into `folder`: its path, and the arrays `loaded_FIELD` and `source_FIELD` that belong to it."""
    path = folder / f"{name}.beton"
    path.write_bytes(gzip.decompress((_FOLDER / f"{name}.beton.gz").read_bytes()))
    with np.load(_FOLDER / f"{name}.npz") as arrays:
        return path, dict(arrays)
