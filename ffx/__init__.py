"""ffx: data loading for training on images, from one memory-mapped file, decoded by compiled code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .errors import FfxError, FfxWarning

if TYPE_CHECKING:
    from .loader import Loader, OrderOption
    from .reader import Reader
    from .remote import RemoteOptions
    from .verifying import verify_file
    from .writer import DatasetWriter

__version__ = "0.1.0"

__all__ = [
    "DatasetWriter",
    "FfxError",
    "FfxWarning",
    "Loader",
    "OrderOption",
    "Reader",
    "RemoteOptions",
    "__version__",
    "verify_file",
]

_HOMES = {
    "DatasetWriter": "writer",
    "Loader": "loader",
    "OrderOption": "loader",
    "Reader": "reader",
    "RemoteOptions": "remote",
    "verify_file": "verifying",
}


def __getattr__(name: str):
    # Loaded when first asked for: `import ffx.writer` in a worker process need not import torch's loader.
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
