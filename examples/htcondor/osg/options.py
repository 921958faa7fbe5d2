"""The flags of `imagenet_resnet50.py`, and what they mean to the trainer."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.arguments import Parser, value_of
from trainer.config import TrainerConfig
from trainer.errors import DataError
from trainer.values import WholeNumber

from ffx.remote import is_remote, redacted

from .dataset import CustomImageNetDataset, link_some

__all__ = ["CHECKPOINTS", "MODEL", "Options", "configuration", "read_options"]

MODEL = "imagenet_resnet50.pt"
CHECKPOINTS = "checkpoints"
_SIDE = 224  # pixels
_VALIDATED = 256  # images a batch
_SAMPLE = "_training_sample"  # behind the name of the folder for checkpoints
_SAMPLES_A_CLASS = 10


@dataclass(frozen=True)
class Options:
    """What the flags say; each attribute is a flag's long name."""

    data: str = "data/train"
    val_data: str = ""
    batch_size: int = 256
    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 1
    log_interval: int = 10
    save_model: bool = False
    weights: str = ""
    arch: str = "resnet50"
    image_size: int = _SIDE
    workers: int = -1
    device: str = "auto"
    checkpoints: str = CHECKPOINTS
    checkpoint_minutes: float = 0.0
    cache_dir: str = ""
    max_steps: int = 0


class _Parser(Parser):
    called = "flags"


def _whole(least: int) -> Any:
    return value_of(WholeNumber(least))


def _real(text: str) -> float:
    number = float(text)
    # `not >=` also refuses what is no number.
    if not number >= 0 or math.isinf(number):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text!r}")
    return number


def read_options(program: str, description: str, arguments: Sequence[str]) -> Options:
    """What a command line says.

    Raises:
        ConfigurationError: a flag is unknown or its value is bad.
        SystemExit: after `--help` (0).
    """
    parser = _Parser(prog=program, description=description, allow_abbrev=False)
    default = Options()

    def add(name: str, kind: Any, text: str, **more: Any) -> None:
        value = getattr(default, name)
        shown = f"{text} (default: {value if value != '' else 'none'})"
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, type=kind, default=value, help=shown, **more)

    add("data", str, "folder of class folders, file of ffx, or the address of one", metavar="PATH")
    add(
        "val_data",
        str,
        "the same to evaluate on; none, with class folders: some of the training images",
        metavar="PATH",
    )
    add("batch_size", _whole(1), "images a step", metavar="N")
    add("epochs", _whole(1), "number of epochs", metavar="N")
    add("lr", _real, "learning rate, the same in all epochs", metavar="RATE")
    add("momentum", _real, "momentum of SGD", metavar="M")
    add("weight_decay", _real, "weight decay, of all parameters", metavar="D")
    add("seed", _whole(0), "of order, augmentations and new layers", metavar="N")
    add("log_interval", _whole(0), "steps between lines with the loss; 1: each step; 0: a bar instead", metavar="N")
    parser.add_argument("--save-model", action="store_true", help=f"write {MODEL} at the end")
    add("weights", str, "file of pretrained weights; the last layer begins anew", metavar="FILE")
    add("arch", str, "network of torchvision.models", metavar="NAME")
    add("image_size", _whole(1), "side of the images, in pixels", metavar="N")
    add("workers", _whole(-1), "processes (files: threads) that load; -1: one a core", metavar="N")
    add("device", str, "auto: a GPU where there is one", choices=("auto", "cpu", "cuda"))
    add("checkpoints", str, "folder for checkpoints; a training that is begun there goes on", metavar="FOLDER")
    add("checkpoint_minutes", _real, "minutes between checkpoints in mid-epoch; 0: none", metavar="M")
    add("cache_dir", str, "addresses: folder that keeps what was fetched", metavar="FOLDER")
    add("max_steps", _whole(0), "stop after so many steps, for measurements; 0: do not", metavar="N")
    return Options(**vars(parser.parse_args(list(arguments))))


def configuration(options: Options) -> TrainerConfig:
    """The training that the options ask for.

    Raises:
        DataError: there are no class folders, or nothing to evaluate on.
    """
    side = options.image_size
    return TrainerConfig.from_params(
        {
            "model.arch": options.arch,
            "model.weights": options.weights,
            "model.new_last_layer": bool(options.weights),
            "data.train_dataset": options.data,
            "data.val_dataset": options.val_data or _sample_of(options),
            "data.num_workers": options.workers,
            "data.cache_dir": options.cache_dir,
            "resolution.min_res": side,
            "resolution.max_res": side,
            "validation.resolution": side,
            "validation.batch_size": min(options.batch_size, _VALIDATED),
            "validation.lr_tta": False,
            "validation.plain_resolution": 0,
            "training.device": options.device,
            "training.batch_size": options.batch_size,
            "training.epochs": options.epochs,
            "training.optimizer": "sgd",
            "training.momentum": options.momentum,
            "training.weight_decay": options.weight_decay,
            # On everything, as torch.optim.SGD has it.
            "training.no_decay": "nothing",
            "training.label_smoothing": 0.0,
            "training.seed": options.seed,
            "training.resume": "auto",
            "training.checkpoint_minutes": options.checkpoint_minutes,
            "training.max_steps": options.max_steps,
            # Constant: the only step is behind the last epoch.
            "lr.lr": options.lr,
            "lr.lr_schedule_type": "multistep",
            "lr.milestones": str(options.epochs),
            "logging.folder": options.checkpoints,
            "logging.print_every": options.log_interval,
        }
    )


def _sample_of(options: Options) -> str:
    """Links to a few training images of each class, where nothing is given to evaluate on."""
    if is_remote(options.data) or Path(options.data).is_file():
        raise DataError(f"--data {redacted(options.data)}: a file needs --val-data, another one to evaluate on")
    images = CustomImageNetDataset(options.data)
    # Beside the checkpoints, which HTCondor transfers: the data may lie where nobody may write.
    checkpoints = Path(options.checkpoints).absolute()
    folder = checkpoints.with_name(checkpoints.name + _SAMPLE)
    link_some(images, folder, _SAMPLES_A_CLASS)
    return str(folder)
