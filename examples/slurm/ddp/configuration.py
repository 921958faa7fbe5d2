"""The options of `main.py` in the trainer's terms."""

from __future__ import annotations

from typing import Any

from data import find_data
from trainer.config import TrainerConfig
from trainer.errors import ConfigurationError

from .options import MainOptions

__all__ = ["configuration", "learning_rate", "world_size", "worded"]

SIDE = 224  # pixels
STEP_EPOCHS = 30
# Of ImageNet's training set.
DUMMY_IMAGES = 1_281_167
_BASE_BATCH = 256
# The trainer's names, and those that are meant by them here.
_NAMES = {
    "--training.resume": "--resume",
    "training.resume": "--resume",
    "--training.batch_size": "a batch a rank (-b is that of all ranks)",
    "training.start_epoch": "--start-epoch",
    "training.epochs": "--epochs",
    "training.optimizer": "--optimizer",
    "training.precision": "--precision",
    "training.device": "--device",
    "dist.backend": "--dist-backend",
    "dist.url": "--dist-url",
    "lr.warmup_epochs": "--warmup-epochs",
    "--lr.lr": "--lr",
    "--data-path": "DATA",
}


def world_size() -> int:
    """How many ranks there are; SLURM says it, else this process is alone.

    Raises:
        ConfigurationError: SLURM's variables are incomplete.
    """
    # Late, because importing torch takes seconds.
    from trainer.distributed import find_ranks

    ranks = find_ranks(TrainerConfig.from_params({"data.source": "synthetic"}))
    return ranks.world if ranks else 1


def configuration(data: str, options: MainOptions, further: dict[str, Any], world: int) -> TrainerConfig:
    """The training that the options ask for.

    Args:
        data: the place of the data.
        options: of `main.py`.
        further: the trainer's, by dotted names, which win.
        world: number of ranks.

    Raises:
        ConfigurationError: options exclude each other, or there are no data.
    """
    share, rest = divmod(options.batch_size, world)
    if rest or not share:
        raise ConfigurationError(
            f"--batch-size {options.batch_size}: expected a multiple of the number of ranks, {world}: it is that of "
            f"all of them together, such as {max(share, 1) * world}"
        )
    params = {
        **_data(data, options, further),
        **_course(options),
        **_outputs(options),
        "model.arch": options.arch,
        "model.pretrained": options.pretrained,
        "resolution.min_res": SIDE,
        "resolution.max_res": SIDE,
        "data.num_workers": options.workers,
        "validation.batch_size": share,
        "validation.resolution": SIDE,
        "validation.lr_tta": False,
        "validation.plain_resolution": 0,
        "training.eval_only": options.evaluate,
        "training.batch_size": share,
        "training.optimizer": options.optimizer,
        "training.momentum": options.momentum,
        "training.weight_decay": options.weight_decay,
        # On everything, batch norms and biases as well.
        "training.no_decay": "nothing",
        "training.label_smoothing": 0.0,
        "training.seed": options.seed,
        "training.device": options.device,
        "training.precision": options.precision,
        "training.resume": options.resume,
        "training.checkpoint_minutes": options.checkpoint_minutes,
        "dist.backend": options.dist_backend,
        "dist.url": "" if options.dist_url == "env://" else options.dist_url,
    }
    return TrainerConfig.from_params({**params, **further})


def learning_rate(options: MainOptions) -> float:
    """The rate at the beginning, which with `--scale-lr` grows with the batch."""
    return options.lr * options.batch_size / _BASE_BATCH if options.scale_lr else options.lr


def _course(options: MainOptions) -> dict[str, Any]:
    falls = [str(epoch) for epoch in range(STEP_EPOCHS, options.epochs, STEP_EPOCHS)]
    return {
        "training.epochs": options.epochs,
        "training.start_epoch": options.start_epoch,
        "lr.lr": learning_rate(options),
        "lr.lr_schedule_type": "multistep" if options.schedule == "step" else "cosine",
        # Without any, the only one is behind the last epoch.
        "lr.milestones": ",".join(falls) or str(options.epochs),
        "lr.step_ratio": 0.1,
        "lr.warmup_epochs": options.warmup_epochs,
    }


def _outputs(options: MainOptions) -> dict[str, Any]:
    return {
        "logging.folder": f"{options.output_dir}/runs",
        "logging.export_folder": options.output_dir,
        "logging.print_every": options.print_freq,
    }


def _data(data: str, options: MainOptions, further: dict[str, Any]) -> dict[str, Any]:
    if options.dummy:
        return {"data.source": "synthetic", "data.synthetic_images": DUMMY_IMAGES}
    if {"data.train_dataset", "data.val_dataset"} <= further.keys() or further.get("data.source") == "synthetic":
        return {}
    places = find_data(data)
    return {"data.train_dataset": str(places.train), "data.val_dataset": str(places.val)}


def worded(text: str) -> str:
    """A message of the trainer with the names of the options here."""
    # Longer names first, as one may begin like another.
    for name in sorted(_NAMES, key=len, reverse=True):
        text = text.replace(name, _NAMES[name])
    return text
