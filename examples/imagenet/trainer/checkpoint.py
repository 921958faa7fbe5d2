"""Checkpoints at the end of an epoch, from which a training goes on as if it had never stopped.

A checkpoint is written beside its final name, flushed to the disk and renamed, and the one before it is kept: whatever
moment the machine chooses to fail, one good checkpoint is there. Random numbers need no place in it: every epoch seeds
its generators from (seed, epoch, rank).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ffx.errors import FfxWarning

from .config import TrainerConfig
from .errors import CheckpointError

__all__ = [
    "CHECKPOINT",
    "PREVIOUS",
    "Checkpoint",
    "check_same_training",
    "find_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "write_durably",
]

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"

# What may differ between a run and its continuation, because it does not decide which weights come out.
_MAY_CHANGE = {
    "model.pretrained",
    "model.weights",
    "data.train_dataset",
    "data.val_dataset",
    "data.num_workers",
    "data.in_memory",
    "logging.folder",
    "logging.log_level",
    "validation.batch_size",
    "validation.resolution",
    "validation.lr_tta",
    "training.eval_only",
    "training.distributed",
    "training.device",
    "training.resume",
    "training.checkpoint_every",
    "training.max_steps",
    "dist.world_size",
    "dist.address",
    "dist.port",
}


@dataclass(frozen=True)
class Checkpoint:
    """A training at the end of an epoch.

    Attributes:
        uuid: the run's.
        epoch: epochs that are done.
        world: ranks that trained together.
        classes: outputs of the model.
        seconds: training time so far.
        params: the configuration, by dotted names.
        model, optimizer, scaler: their state dicts.
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


def write_durably(path: Path, write: Callable[[Path], None], keep: Path | None = None) -> None:
    """Let `write` fill a file beside `path`; when its bytes are on the disk it takes the name `path`.

    What stood there before takes the name `keep`, if one is given.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` into a run's folder and return its path; the one before it is kept beside it."""
    path = folder / CHECKPOINT
    # Not `asdict`, which would copy every tensor.
    content = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    write_durably(path, lambda partial: torch.save(content, partial), keep=folder / PREVIOUS)
    return path


def find_checkpoint(resume: str) -> Path:
    """The checkpoint that `training.resume` names: a file, or the newest in a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(resume).expanduser()
    candidates = [path / CHECKPOINT, path / PREVIOUS] if path.is_dir() else [path, path.with_name(PREVIOUS)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(f"training.resume={resume}: expected a run's folder with {CHECKPOINT}, or such a file")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; a damaged one is replaced by the one before it, with a warning.

    Raises:
        CheckpointError: neither can be read.
    """
    try:
        return _read(path)
    except CheckpointError as error:
        previous = path.with_name(PREVIOUS)
        if path == previous or not previous.is_file():
            raise
        warnings.warn(f"{error}: going on from {previous}", FfxWarning, stacklevel=2)
        return _read(previous)


def _read(path: Path) -> Checkpoint:
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise CheckpointError(f"{path} is no readable checkpoint of this trainer: {error}") from error


def check_same_training(checkpoint: Checkpoint, config: TrainerConfig, world: int) -> None:
    """Refuse to continue a training with options that would make it another one.

    Raises:
        CheckpointError: names each option with both values.
    """
    now = {**config.as_params(), "number of ranks": world}
    then = {**checkpoint.params, "number of ranks": checkpoint.world}
    changed = [
        f"{name}: {then[name]!r} then, {now[name]!r} now"
        for name in now
        if name not in _MAY_CHANGE and name in then and then[name] != now[name]
    ]
    if changed:
        raise CheckpointError(
            f"run {checkpoint.uuid} was started with other options ({'; '.join(changed)}): resume with the same ones, "
            "or start a new run from its weights with --model.weights"
        )
