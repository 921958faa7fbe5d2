"""Going on with a run: which checkpoint, the same one on all ranks, and whether it is the same training."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffx.errors import FfxWarning

from .checkpoint import Checkpoint, find_checkpoint, find_newest_run, read_checkpoint
from .config import ResolutionConfig, RunConfig, TrainerConfig
from .distributed import Ranks, from_first_rank
from .errors import CheckpointError
from .runlog import PARAMS
from .schedule import EpochSizes, sizes_of_epoch

__all__ = [
    "AUTO",
    "DAMAGED",
    "Resumed",
    "check_same_training",
    "choose_run",
    "folder_of_run",
    "has_other_batches",
    "resume_together",
]

AUTO = "auto"
DAMAGED = "checkpoint.damaged.pt"

# What may differ between a run and its continuation, because it does not decide which weights come out.
_MAY_CHANGE = {
    "model.pretrained",
    "model.weights",
    "model.new_last_layer",
    "data.train_dataset",
    "data.val_dataset",
    "data.synthetic_val_images",
    "data.num_workers",
    "data.in_memory",
    "data.download",
    "data.cache_dir",
    "data.cache_gb",
    "training.eval_only",
    "training.distributed",
    "training.device",
    "training.resume",
    "training.compile",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.allow_batch_change",
    "training.max_steps",
    "training.start_epoch",
    "dist.world_size",
    "dist.address",
    "dist.port",
    "dist.url",
    "dist.backend",
}
_MAY_CHANGE_ALL = ("logging.", "validation.")
_BATCH = "training.batch_size"
_SCHEDULE = "resolution.schedule"
# These decide images and batches of each epoch together.
_SIZES = {"resolution.min_res", "resolution.max_res", "resolution.start_ramp", "resolution.end_ramp", _SCHEDULE, _BATCH}


@dataclass(frozen=True)
class Resumed:
    """A checkpoint, and the folder of its run."""

    checkpoint: Checkpoint
    folder: Path


def choose_run(config: TrainerConfig) -> TrainerConfig:
    """The configuration with the folder that `training.resume=auto` means, or without `training.resume`."""
    if config.training.resume != AUTO:
        return config
    newest = find_newest_run(config.logging.folder)
    return replace(config, training=replace(config.training, resume=str(newest or "")))


def resume_together(config: TrainerConfig, ranks: Ranks) -> Resumed | None:
    """The checkpoint that a configuration goes on from, on all ranks the one that the first of them finds.

    Raises:
        CheckpointError: there is none, it cannot be read, or it belongs to another training.
    """
    if not config.training.resume:
        return None
    checkpoint, path, digest, problem = None, "", "", ""
    if ranks.is_main:
        try:
            checkpoint, path, digest = _find(config)
        except CheckpointError as error:
            problem = str(error)
    path, digest, problem = from_first_rank((path, digest, problem))
    if problem:
        raise CheckpointError(problem)
    if not path:
        return None
    if checkpoint is None:
        checkpoint, _, found = read_checkpoint(Path(path))
        if found != digest:
            raise CheckpointError(f"{path}: rank {ranks.rank} and rank 0 read different files: use a shared folder")
    check_same_training(checkpoint, config, ranks)
    return Resumed(checkpoint, folder_of_run(config, Path(path), checkpoint))


def folder_of_run(config: TrainerConfig, path: Path, checkpoint: Checkpoint | None = None) -> Path:
    """Where the run of a checkpoint goes on: in its own folder, or for a copy of it elsewhere in `logging.folder`."""
    if (path.parent / PARAMS).exists():
        return path.parent.absolute()
    checkpoint = checkpoint or read_checkpoint(path)[0]
    return Path(config.logging.folder).expanduser().absolute() / checkpoint.uuid


def _find(config: TrainerConfig) -> tuple[Checkpoint | None, str, str]:
    resume = choose_run(config).training.resume
    if not resume:
        return None, "", ""
    newest = find_checkpoint(resume).absolute()
    checkpoint, path, digest = read_checkpoint(newest)
    if path != newest and not config.training.eval_only:
        # Or the next checkpoint would keep the damaged one, in the place of the good one before it.
        newest.rename(_free_name(newest.with_name(DAMAGED)))
    return checkpoint, str(path), digest


def _free_name(path: Path) -> Path:
    """The path, or the next one with a number that nothing has: what was set aside before is kept."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([path], numbered) if not candidate.exists())


def has_other_batches(checkpoint: Checkpoint, config: TrainerConfig, world: int) -> bool:
    """Whether the ranks or their batches are other ones than when the checkpoint was written."""
    now = config.as_params()
    then = {name: checkpoint.params.get(name, now[name]) for name in (_BATCH, _SCHEDULE)}
    return checkpoint.world != world or any(then[name] != now[name] for name in then)


def check_same_training(checkpoint: Checkpoint, config: TrainerConfig, ranks: Ranks) -> None:
    """Refuse to continue a training with options that would make it another one.

    Any number of ranks may go on if all of them together have the same batch: steps and learning rates stay what they
    were. Their batch norms see other batches, so the weights are not the same bit for bit: the first rank warns.

    Raises:
        CheckpointError: names each option with both values.
    """
    now, then = config.as_params(), checkpoint.params
    fixed = [name for name in now if name not in {*_MAY_CHANGE, *_SIZES} and not name.startswith(_MAY_CHANGE_ALL)]
    changed = [
        f"{name}: {then[name]!r} then, {now[name]!r} now" for name in fixed if name in then and then[name] != now[name]
    ]
    epochs = range(checkpoint.epoch, config.training.epochs)
    sizes, sizes_then = _sizes_of(now, epochs), _sizes_of({**now, **then}, epochs)
    changed += [
        f"images of epoch {epoch + 1}: {before.side} px then, {after.side} px now"
        for epoch, before, after in zip(epochs, sizes_then, sizes, strict=True)
        if before.side != after.side
    ][:1]
    if changed:
        raise CheckpointError(
            f"run {checkpoint.uuid} was started with other options ({'; '.join(changed)}): resume with the same ones, "
            "or start a new run from its weights with --model.weights"
        )
    # Evaluating alone changes nothing.
    if not config.training.eval_only and has_other_batches(checkpoint, config, ranks.world):
        _check_batches(checkpoint, sizes_then, sizes, config, ranks)


def _sizes_of(params: Mapping[str, Any], epochs: Iterable[int]) -> list[EpochSizes]:
    values = {name.partition(".")[2]: params[name] for name in _SIZES}
    training = RunConfig(batch_size=values.pop("batch_size"))
    return [sizes_of_epoch(ResolutionConfig(**values), training, epoch) for epoch in epochs]


def _check_batches(
    checkpoint: Checkpoint,
    sizes_then: Sequence[EpochSizes],
    sizes: Sequence[EpochSizes],
    config: TrainerConfig,
    ranks: Ranks,
) -> None:
    world, world_then = ranks.world, checkpoint.world
    pairs = [(before.batch_size, after.batch_size) for before, after in zip(sizes_then, sizes, strict=True)]
    other = [(before, after) for before, after in pairs if before * world_then != after * world]
    before, after = (other or pairs or [(0, 0)])[0]
    batch, batch_then = world * after, world_then * before
    both = f"{world_then} x {before} = {batch_then} then, {world} x {after} = {batch} now"
    if other and not config.training.allow_batch_change:
        share, rest = divmod(batch_then, world)
        option = f"{share} in --{_SCHEDULE}" if config.resolution.schedule else f"--{_BATCH}={share}"
        same = "" if rest else f"{option} keeps it; "
        raise CheckpointError(
            f"run {checkpoint.uuid} had another batch of all ranks together ({both}): {same}"
            "--training.allow_batch_change=1 goes on with this one, with other numbers of steps and the learning rate "
            "as it stands"
        )
    if ranks.is_main:
        effect = "other steps and batch norms" if other else "other batch norms"
        warnings.warn(f"run {checkpoint.uuid} goes on with other ranks ({both}): {effect}", FfxWarning, stacklevel=3)
