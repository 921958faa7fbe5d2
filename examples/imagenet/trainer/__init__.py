"""The ImageNet trainer on top of ffx: one typed configuration, which every front end translates its options into.

    from trainer import Trainer, TrainerConfig

`config` and `values` say what can be asked for, `command_line` reads it, `launch` starts the processes, `loop` trains.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import TrainerConfig
    from .launch import launch
    from .loop import Trainer

__all__ = ["Trainer", "TrainerConfig", "launch"]

_HOMES = {"Trainer": "loop", "TrainerConfig": "config", "launch": "launch"}


def __getattr__(name: str):
    # Loaded when first asked for: reading a command line needs no torch, whose import takes seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    # The package's submodule `launch` would stand in the function's way from now on.
    globals()[name] = value
    return value
