"""The lab's options in the trainer's terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config import TrainerConfig
from trainer.errors import ConfigurationError, DataError

from .options import LabOptions

__all__ = ["LEARNING_RATE", "RUNS", "WEIGHT_DECAY", "check_device", "configuration", "has_gpu", "trace_path"]

LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
RUNS = "runs/resnet18_lab"
SIDE = 32  # pixels
_MOST_VALIDATED = 512  # images a batch
_FILES = (".beton", ".ffcv")


def configuration(options: LabOptions, **changes: Any) -> TrainerConfig:
    """The training that the options ask for; `changes` are options of the trainer by dotted names.

    Raises:
        DataError: there is no data set.
    """
    params = {
        **find_data(options.dataset_path, options.download_data),
        "data.augmentation": "cifar",
        "data.num_workers": options.num_of_workers,
        "model.arch": "cifar_resnet18_no_norm" if options.no_batch_norm else "cifar_resnet18",
        "resolution.min_res": SIDE,
        "resolution.max_res": SIDE,
        "validation.resolution": SIDE,
        "validation.batch_size": min(options.batch_size, _MOST_VALIDATED),
        "validation.lr_tta": False,
        "training.device": options.device,
        "training.batch_size": options.batch_size,
        "training.epochs": options.epochs,
        **_optimizer(options.optimizer),
        "training.label_smoothing": 0.0,
        "training.precision": "fp32",
        "training.checkpoint_every": 0,
        # Constant: the only step is behind the last epoch.
        "lr.lr": LEARNING_RATE,
        "lr.lr_schedule_type": "multistep",
        "lr.milestones": str(options.epochs),
        "logging.folder": RUNS,
        "logging.timings": True,
        "logging.profile": str(trace_path(options)) if options.run_profiler else "",
    }
    return TrainerConfig.from_params({**params, **changes})


def _optimizer(name: str) -> dict[str, Any]:
    kind, _, variant = name.partition("-")
    return {
        "training.optimizer": kind,
        "training.nesterov": variant == "nesterov",
        "training.momentum": 0.9,
        "training.weight_decay": WEIGHT_DECAY,
        # On everything, batch norms and biases as well.
        "training.no_decay": "nothing",
    }


def trace_path(options: LabOptions) -> Path:
    """Where the profiler's trace is written."""
    name = options.trace_file_name
    return Path(name if name.endswith(".json") else f"{name}.json").expanduser()


def find_data(path: str, download: bool = False) -> dict[str, Any]:
    """The trainer's options for a data set: CIFAR-10 as torchvision has it, class folders, or two files.

    Raises:
        DataError: the folder holds none of these.
    """
    folder = Path(path).expanduser()
    if download or (folder / "cifar-10-batches-py").is_dir():
        places = {"data.train_dataset": str(folder), "data.val_dataset": str(folder)}
        return {"data.source": "cifar10", "data.download": download, **places}
    for validation in ("val", "test"):
        pair = [folder / "train", folder / validation]
        if all(place.is_dir() for place in pair):
            return {"data.source": "folder", **_places(pair)}
        for suffix in _FILES:
            pair = [folder / f"train{suffix}", folder / f"{validation}{suffix}"]
            if all(place.is_file() for place in pair):
                return {"data.source": "ffx", **_places(pair)}
    raise DataError(
        f"--dataset-path {path}: expected a folder with cifar-10-batches-py, or with train and val (or test): class "
        f"folders of {SIDE} px images, or files of ffx such as train.beton; found "
        f"{'none of these' if folder.is_dir() else 'no such folder'}: --download-data=true fetches CIFAR-10 into it"
    )


def _places(pair: list[Path]) -> dict[str, Any]:
    return dict(zip(("data.train_dataset", "data.val_dataset"), map(str, pair), strict=True))


def has_gpu() -> bool:
    """Whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


def check_device(options: LabOptions) -> None:
    """Refuse a GPU that is not there.

    Raises:
        ConfigurationError: `--device=cuda` without one.
    """
    if options.device == "cuda" and not has_gpu():
        raise ConfigurationError("--device=cuda, but torch finds no GPU on this machine: use --device=cpu")
