"""Where batches come from: a file through `ffx.Loader`, a folder through torchvision, made tensors."""

from __future__ import annotations

from pathlib import Path

import torch

from ffx.remote import RemoteOptions, is_remote, redacted

from .cifar_source import CifarSource
from .config import TrainerConfig
from .distributed import Ranks
from .errors import DataError
from .ffx_source import FfxSource
from .folder_source import FolderSource
from .pillow_source import PillowSource, can_be_read_by_pillow
from .schedule import sizes_of_epoch
from .source import Purpose, Source, SyntheticSource
from .step_clock import StepClock

__all__ = [
    "CifarSource",
    "FfxSource",
    "FolderSource",
    "Purpose",
    "Source",
    "SyntheticSource",
    "count_classes",
    "open_plain_validation",
    "open_training",
    "open_validation",
]

DEFAULT_CLASSES = 1000


def open_training(config: TrainerConfig, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> Source:
    """The training set of a configuration.

    Raises:
        DataError: it cannot be trained on.
    """
    purpose = Purpose(
        training=True,
        batch_size=config.training.batch_size,
        flip=config.training.flip,
        seed=config.training.seed,
        num_workers=config.data.num_workers,
        in_memory=config.data.in_memory,
        on_error=config.data.on_error,
        ranks=ranks,
        device=device,
        dtype=dtype,
        alternating_flip=config.recipe.alternating_flip,
        randaugment=config.recipe.randaugment,
        augmentation=config.data.augmentation,
        clock=StepClock(device, config.logging.timings),
    )
    source = _open(config, config.data.train_dataset, config.data.synthetic_images, purpose)
    sizes = (sizes_of_epoch(config.resolution, config.training, epoch) for epoch in range(config.training.epochs))
    largest = max(size.batch_size for size in sizes)
    if not source.steps_left(0, largest):
        raise DataError(
            f"{source.path}: {source.images} images make no batch of {largest} for each of {ranks.world} rank(s): use "
            f"a smaller {'batch in --resolution.schedule' if config.resolution.schedule else '--training.batch_size'}"
        )
    return source


def open_validation(config: TrainerConfig, ranks: Ranks, device: torch.device, dtype: torch.dtype) -> Source:
    """The validation set of a configuration."""
    purpose = Purpose(
        training=False,
        batch_size=config.validation.batch_size,
        flip=False,
        seed=config.training.seed,
        num_workers=config.data.num_workers,
        in_memory=True,
        # Which images count in an evaluation must not depend on which are damaged.
        on_error="raise",
        ranks=ranks,
        device=device,
        dtype=dtype,
        augmentation=config.data.augmentation,
    )
    synthetic_images = config.data.synthetic_val_images or max(1, config.data.synthetic_images // 10)
    return _open(config, config.data.val_dataset, synthetic_images, purpose)


def open_plain_validation(
    config: TrainerConfig, ranks: Ranks, device: torch.device, dtype: torch.dtype
) -> dict[str, Source]:
    """The validation set once more, by who decodes it: `"ffx"` and `"pillow"`; what there is of the two.

    A folder is Pillow's alone, a file in planar YUV or behind an address ffx's.
    Images that are taken as they are stored have one size only.
    """
    if config.data.source == "synthetic" or config.data.augmentation == "cifar":
        return {}
    source = open_validation(config, ranks, device, dtype)
    if source.kind != "ffx":
        return {"pillow": source}
    if is_remote(source.path) or not can_be_read_by_pillow(source.path):
        return {"ffx": source}
    return {"ffx": source, "pillow": PillowSource(source.path, source.purpose)}


def _open(config: TrainerConfig, path: str, synthetic_images: int, purpose: Purpose) -> Source:
    kind, remote = config.data.source, remote_options(config)
    if kind == "synthetic":
        return SyntheticSource(synthetic_images, config.data.classes or DEFAULT_CLASSES, purpose)
    if is_remote(path):
        if kind not in ("auto", "ffx"):
            raise DataError(
                f"{redacted(path)}: data.source={kind} expects a path, found an address: addresses are of files of ffx"
            )
        return FfxSource(path, purpose, remote)
    place = Path(path).expanduser()
    if kind == "cifar10":
        return CifarSource(str(place), purpose, config.data.download)
    if not place.exists():
        raise DataError(f"{path}: no such file or folder")
    if kind == "auto":
        kind = "folder" if place.is_dir() else "ffx"
    return FolderSource(str(place), purpose) if kind == "folder" else FfxSource(str(place), purpose)


def remote_options(config: TrainerConfig) -> RemoteOptions:
    """How files behind addresses are kept."""
    limit = int(config.data.cache_gb * 10**9) or None
    return RemoteOptions(cache_dir=config.data.cache_dir or None, cache_bytes=limit)


def count_classes(wanted: int, sources: list[Source]) -> int:
    """How many outputs the model needs: `wanted`, or else what the data sets say.

    Raises:
        DataError: the data sets disagree, or have more classes than wanted.
    """
    named = [source for source in sources if source.class_names]
    for source in named[1:]:
        if source.class_names != named[0].class_names:
            raise DataError(
                f"{source.path} and {named[0].path} have different classes, so the same label would mean two things: "
                f"{_first_difference(source.class_names or [], named[0].class_names or [])}"
            )
    known = len(named[0].class_names or []) if named else max(source.classes for source in sources)
    classes = wanted or known or DEFAULT_CLASSES
    for source in sources:
        if source.classes > classes:
            raise DataError(f"{source.path}: labels go up to {source.classes - 1}, but there are {classes} classes")
    return classes


def _first_difference(names: list[str], others: list[str]) -> str:
    for number, (name, other) in enumerate(zip(names, others, strict=False)):
        if name != other:
            return f"label {number} is {name!r} in one and {other!r} in the other"
    return f"there are {len(names)} and {len(others)}"
