"""From the configuration of `run.py` to the trainer's: what is not simply another name is decided here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import checkout  # noqa: F401
from config import DEFAULT_PROGRESSIVE_SCHEDULE, PRECISIONS, TrainingConfig, get_default_config, settings_of
from data import find_data
from trainer.config import TrainerConfig
from trainer.errors import ConfigurationError

from ffx.errors import FfxWarning
from ffx.remote import redacted

__all__ = ["progressive_schedule", "translate"]

# What the default schedule is for.
_BATCH_SIZE, _IMAGE_SIZE = 256, 224
# Networks halve images five times.
_SIDE_STEP = 32
# Where the rate ends.
_LAST_SHARES = {"onecycle": 0.01}
# Of one that is shorter nobody expects that its learning rate falls.
_LONG_TRAINING_EPOCHS = 10
_HIGHEST_USUAL_ADAMW_RATE = 0.01


def translate(config: TrainingConfig, options: Mapping[str, Any]) -> TrainerConfig:
    """See `TrainingConfig.to_trainer_config`."""
    _warn_of_mistakes(config)
    direct = {
        setting.option: getattr(section, setting.name)
        for section in config.sections()
        for setting in settings_of(section)
        if setting.option
    }
    made = {**direct, **_learning(config), **_images(config), **_processes(config), **_data(config, options)}
    # Its evaluation is a plain one already.
    return TrainerConfig.from_params({"validation.plain_resolution": 0, **made, **options})


def progressive_schedule(config: TrainingConfig) -> str:
    """`"epoch,size,batch;..."` as the trainer takes it; empty when images and batches stay as they are."""
    own = config.optimization.progressive_schedule
    return own or (_default_schedule(config) if config.optimization.progressive_resize else "")


def _default_schedule(config: TrainingConfig) -> str:
    largest, stages = config.data.image_size, []
    for part in DEFAULT_PROGRESSIVE_SCHEDULE.split(";"):
        epoch, side, batch = map(int, part.split(","))
        rounded = max(1, round(side * largest / _IMAGE_SIZE / _SIDE_STEP)) * _SIDE_STEP
        own_side = largest if side == _IMAGE_SIZE else min(rounded, largest)
        stages.append(f"{epoch},{own_side},{max(1, round(batch * config.data.batch_size / _BATCH_SIZE))}")
    return ";".join(stages)


def _learning(config: TrainingConfig) -> dict[str, Any]:
    name, optimizer = config.scheduler.name, config.optimizer
    zero_init = {"on": True, "off": False}.get(config.model.zero_init, _has_blocks(config.model.arch))
    rate = config.scheduler.max_lr if name == "onecycle" else optimizer.lr
    return {
        "model.zero_init": zero_init,
        "lr.lr": rate,
        "lr.final_lr": rate * _LAST_SHARES.get(name, 0.0),
        "training.no_decay": "norms_and_biases" if optimizer.no_bn_weight_decay else "nothing",
        "training.precision": _precision(config),
    }


def _has_blocks(arch: str) -> bool:
    return arch.startswith(("resnet", "resnext", "wide_resnet")) or arch in ("scratch_resnet50", "cifar_resnet18")


def _precision(config: TrainingConfig) -> str:
    amp = config.optimization.amp
    if amp == "fp16" and not _uses_gpu(config):
        _warn("--amp fp16 needs a GPU, and this training has none: it computes in fp32 (--amp bf16 works here)")
        return "fp32"
    return PRECISIONS[amp]


def _uses_gpu(config: TrainingConfig) -> bool:
    # Late, because importing torch takes seconds.
    import torch

    return config.device != "cpu" and torch.cuda.is_available()


def _images(config: TrainingConfig) -> dict[str, Any]:
    side = config.data.image_size
    return {
        "resolution.min_res": side,
        "resolution.max_res": side,
        "resolution.schedule": progressive_schedule(config),
        "validation.resolution": side,
        "validation.batch_size": config.data.batch_size,
        "validation.lr_tta": False,
    }


def _processes(config: TrainingConfig) -> dict[str, Any]:
    world = config.distributed.world_size
    if not config.distributed.enabled:
        if world:
            raise ConfigurationError(f"--world-size {world} goes with --distributed, which is not given")
        return {}
    if not world:
        import torch

        world = max(1, torch.cuda.device_count()) if _uses_gpu(config) else 1
    return {"training.distributed": True, "dist.world_size": world}


def _data(config: TrainingConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    if config.data.synthetic:
        if config.data.s3_bucket:
            raise ConfigurationError("--synthetic and --s3-bucket exclude each other: both say what to train on")
        return {"data.source": "synthetic"}
    if {"data.train_dataset", "data.val_dataset"} <= options.keys() or options.get("data.source") == "synthetic":
        return {}
    places = find_data(_place(config))
    return {"data.train_dataset": str(places.train), "data.val_dataset": str(places.val)}


def _place(config: TrainingConfig) -> str:
    bucket = config.data.s3_bucket
    if not bucket:
        return config.data.path
    if config.data.path != get_default_config().data.path:
        raise ConfigurationError(
            f"--data-path {redacted(config.data.path)} and --s3-bucket {redacted(bucket)} exclude each other: both say "
            "where the data are"
        )
    scheme, _, rest = bucket.rpartition("://")
    if scheme not in ("", "s3") or not rest.strip("/"):
        raise ConfigurationError(f"--s3-bucket {redacted(bucket)}: expected NAME, NAME/FOLDER or s3://NAME/FOLDER")
    return f"s3://{rest}"


def _warn_of_mistakes(config: TrainingConfig) -> None:
    """What is allowed, but hardly meant."""
    default = get_default_config()
    scheduler, optimizer = config.scheduler, config.optimizer
    one_cycle = scheduler.name == "onecycle"
    if one_cycle and optimizer.lr not in (default.optimizer.lr, scheduler.max_lr):
        _warn(f"--lr {optimizer.lr:g} is not used: onecycle rises to --max-lr, {scheduler.max_lr:g}")
    if not one_cycle and scheduler.max_lr not in (default.scheduler.max_lr, optimizer.lr):
        _warn(f"--max-lr {scheduler.max_lr:g} is not used: {scheduler.name} begins at --lr, {optimizer.lr:g}")
    first = int(scheduler.milestones.partition(",")[0])
    if scheduler.name == "multistep" and config.epochs >= _LONG_TRAINING_EPOCHS and first >= config.epochs:
        thirds = sorted({round(config.epochs * share) for share in (1 / 3, 2 / 3, 8 / 9)})
        _warn(
            f"the learning rate never falls: the first of --milestones {scheduler.milestones} is not before the "
            f"end, epoch {config.epochs}; --milestones {','.join(map(str, thirds))} are at the same shares of it"
        )
    rate = scheduler.max_lr if one_cycle else optimizer.lr
    if optimizer.name == "adamw" and rate > _HIGHEST_USUAL_ADAMW_RATE:
        _warn(f"a learning rate of {rate:g} is high for adamw: 0.001 is usual")


def _warn(text: str) -> None:
    # Once, and not by each of torchrun's processes.
    if os.environ.get("RANK", "0") == "0":
        warnings.warn(text, FfxWarning, stacklevel=4)
