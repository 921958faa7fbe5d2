"""`checkpoint.pth.tar` and `model_best.pth.tar`: checkpoints under the names of PyTorch's ImageNet example.

They are the run's own checkpoints under a second name (a hard link where the file system has them), so nothing is
written twice, and a training goes on from them. What that example looks for in them is there: see `checkpoint`.
"""

from __future__ import annotations

import os
from pathlib import Path

from .durable import write_durably

__all__ = ["BEST_EXPORT", "NEWEST_EXPORT", "export_checkpoint"]

NEWEST_EXPORT = "checkpoint.pth.tar"
BEST_EXPORT = "model_best.pth.tar"


def export_checkpoint(checkpoint: Path, folder: str, is_best: bool) -> None:
    """Give a checkpoint its name in a folder; if it `is_best`, both names."""
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    for name in (NEWEST_EXPORT, *([BEST_EXPORT] if is_best else [])):
        _link_or_copy(checkpoint, place / name)


def _link_or_copy(checkpoint: Path, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(checkpoint, partial)
    except OSError:
        # Another file system, or one without hard links.
        write_durably(path, checkpoint.read_bytes())
        return
    os.replace(partial, path)
