"""Checkpoints, from which a training goes on as if it had never stopped: at an epoch's end, or in the middle of one.

A checkpoint carries a checksum, is written beside its final name, flushed to the disk and renamed, and the one before
it is kept: whatever moment the machine chooses to fail, one good checkpoint is there, and a damaged one is known as
such. Random numbers need no place in it: every step seeds its generators from (seed, epoch, rank, step).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ffx.errors import FfxWarning

from .durable import KEPT, write_durably
from .errors import CheckpointError, DamagedCheckpointError
from .sealed import NotAsWritten, digest_of, sealed, unsealed

__all__ = [
    "CHECKPOINT",
    "PREVIOUS",
    "Checkpoint",
    "find_checkpoint",
    "find_newest_run",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
# Further names for what is in a checkpoint, PyTorch's ImageNet example's; `epoch` and `optimizer` are the same there.
_PYTORCHS_NAMES = ("arch", "state_dict", "best_acc1")
# The newest first; the second is there when the machine fails between two renames.
_NAMES = (CHECKPOINT, CHECKPOINT + KEPT, PREVIOUS)


@dataclass(frozen=True)
class Checkpoint:
    """A place in a training.

    Attributes:
        uuid: the run's.
        epoch: epochs that are done.
        world: ranks that trained together.
        classes: outputs of the model.
        seconds: training time so far.
        params: the configuration, by dotted names.
        model, optimizer, scaler: their state dicts.
        steps: that were made in all epochs.
        progress: in mid-epoch, how far the epoch has come (`EpochProgress.as_dict`); else empty.
        source: in mid-epoch, the state of the training set; else empty.
        average: the state of the weights' moving average, if there is one; else empty.
        best_top_1: the highest share so far in a validation; -1: there was none.
    """

    uuid: str
    epoch: int
    world: int
    classes: int
    seconds: float
    params: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    steps: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    best_top_1: float = -1.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` into a run's folder and return its path; the one before it is kept beside it."""
    path = folder / CHECKPOINT
    # Not `asdict`, which would copy every tensor.
    content = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    # The same tensors once more, which takes next to no room.
    content |= {
        "arch": checkpoint.params.get("model.arch", ""),
        "state_dict": checkpoint.model,
        "best_acc1": 100 * max(checkpoint.best_top_1, 0.0),
    }
    write_durably(path, sealed(content), keep=folder / PREVIOUS)
    return path


def find_checkpoint(resume: str) -> Path:
    """The checkpoint that `training.resume` names: a file, or the newest in a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(resume).expanduser()
    candidates = [path / name for name in _NAMES] if path.is_dir() else [path, *_older(path)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(f"training.resume={resume}: expected a run's folder with {CHECKPOINT}, or such a file")


def find_newest_run(folder: str) -> Path | None:
    """The run in a folder of runs that wrote a checkpoint last; `None`: none did."""
    found = [path for name in _NAMES for path in Path(folder).expanduser().absolute().glob(f"*/{name}")]
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; a damaged one is replaced by the one before it, with a warning.

    Raises:
        DamagedCheckpointError: it is damaged, and so are those before it, if there are any.
        CheckpointError: it cannot be read for another reason; it may be sound, so none stands in for it.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path) -> tuple[Checkpoint, Path, str]:
    """As `load_checkpoint`, with the path that was read in the end, and the checksum of what stood there."""
    older = [candidate for candidate in _older(path) if candidate.is_file()]
    try:
        return _read(path)
    except DamagedCheckpointError as error:
        if not older:
            raise
        warnings.warn(f"{error}: going on from {older[0]}", FfxWarning, stacklevel=2)
    return read_checkpoint(older[0])


def _older(path: Path) -> list[Path]:
    """The paths that may hold what was written before a checkpoint."""
    number = _NAMES.index(path.name) if path.name in _NAMES else len(_NAMES)
    return [path.with_name(name) for name in _NAMES[number + 1 :]]


def _read(path: Path) -> tuple[Checkpoint, Path, str]:
    try:
        archive = path.read_bytes()
        content = unsealed(archive)
        for name in _PYTORCHS_NAMES:
            content.pop(name, None)
        return Checkpoint(**content), path, digest_of(archive)
    except NotAsWritten as error:
        raise DamagedCheckpointError(f"{path} is no readable checkpoint of this trainer: {error}") from error
    except Exception as error:
        # A file system that fails, a lack of memory, another version's fields: nothing is wrong with its bytes.
        raise CheckpointError(
            f"{path} cannot be read, though it may be sound, so nothing was put in its place: {error!r}"
        ) from error
