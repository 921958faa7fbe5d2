"""The configuration of `run.py`, in dataclasses that may be changed; each assignment is checked.

    cfg = get_default_config()
    cfg.data.batch_size = 512
    cfg.optimizer.lr = 0.2

Flags, `--help` and defaults of `run.py` come from the fields here. `to_trainer_config()` translates to the trainer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import checkout  # noqa: F401
from trainer.config import TrainerConfig
from trainer.errors import ConfigurationError
from trainer.values import Architecture, Check, Choice, Milestones, RealNumber, Stages, Switch, Text, WholeNumber

__all__ = [
    "DEFAULT_PROGRESSIVE_SCHEDULE",
    "PRECISIONS",
    "ConfigurationError",
    "DataConfig",
    "DistributedConfig",
    "ModelConfig",
    "OptimizationConfig",
    "OptimizerConfig",
    "OutputConfig",
    "SchedulerConfig",
    "Setting",
    "TrainingConfig",
    "all_settings",
    "get_default_config",
    "settings_of",
]

# For --batch-size 256 and --image-size 224; others stretch it.
DEFAULT_PROGRESSIVE_SCHEDULE = "0,128,512;5,160,384;10,192,320;15,224,256"
# The words of --amp, and the trainer's.
PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "off": "fp32"}


def _setting(default: Any, check: Check, flag: str, help_text: str, option: str = "") -> Any:
    return field(default=default, metadata={"check": check, "flag": flag, "help": help_text, "option": option})


class _Checked:
    """Refuses values and names that make no sense, whenever something is assigned."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = {item.name: item for item in fields(self)}  # type: ignore[arg-type]
        place = f"{type(self).__name__}.{name}"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigurationError(f"{place}: no such setting: {hint}")
        object.__setattr__(self, name, _checked(place, known[name], value))


def _checked(place: str, item: Field, value: Any) -> Any:
    if item.default_factory is not MISSING:
        kind = item.default_factory
        if not isinstance(value, kind):  # type: ignore[arg-type]
            raise ConfigurationError(f"{place}: expected a {kind.__name__}, found {value!r}")
        return value
    try:
        return item.metadata["check"].parse(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"{place}: expected {item.metadata['check'].expected}, found {value!r}") from error


@dataclass
class DataConfig(_Checked):
    """Data"""

    path: str = _setting(
        "./imagenet",
        Text("a path"),
        "--data-path",
        "folder with train/ and val/, or with train*.ffcv and val*.ffcv; or such a training file or its address",
    )
    batch_size: int = _setting(256, WholeNumber(1), "--batch-size", "images a batch and GPU", "training.batch_size")
    image_size: int = _setting(224, WholeNumber(1), "--image-size", "side of the images, in pixels")
    workers: int = _setting(
        8,
        WholeNumber(-1),
        "--workers",
        "processes (files: threads) that load, a GPU; -1: as many as cores",
        "data.num_workers",
    )
    in_memory: bool = _setting(
        True,
        Switch(),
        "--in-memory",
        "a training file fits into memory; else its pages are read ahead",
        "data.in_memory",
    )
    s3_bucket: str = _setting(
        "",
        Text("NAME or NAME/FOLDER"),
        "--s3-bucket",
        "instead of --data-path: NAME or NAME/FOLDER in S3 with train*.ffcv and val*.ffcv, read as they are needed",
    )
    cache_dir: str = _setting(
        "",
        Text("a path"),
        "--cache-dir",
        "files behind addresses: folder on a local disk that keeps what was fetched",
        "data.cache_dir",
    )
    cache_gb: float = _setting(
        0.0,
        RealNumber(0),
        "--cache-gb",
        "files behind addresses: limit of what is kept, in 10^9 bytes; 0: by what the disk has",
        "data.cache_gb",
    )
    synthetic: bool = _setting(False, Switch(), "--synthetic", "no data: train on random numbers, for measurements")


@dataclass
class ModelConfig(_Checked):
    """Model"""

    arch: str = _setting(
        "scratch_resnet50",
        Architecture(),
        "--arch",
        "the ResNet-50 that is built here, or a classification network of torchvision.models",
        "model.arch",
    )
    zero_init: str = _setting(
        "auto",
        Choice(("auto", "on", "off")),
        "--zero-init",
        "the last batch norm of each residual block begins at 0; auto: where there are such blocks",
    )
    weights: str = _setting("", Text("a path"), "--weights", "start from this file of weights", "model.weights")


@dataclass
class OptimizerConfig(_Checked):
    """Optimizer"""

    name: str = _setting("sgd", Choice(("sgd", "adamw")), "--optimizer", "the optimizer", "training.optimizer")
    lr: float = _setting(
        0.1, RealNumber(0), "--lr", "learning rate of multistep and cosine, for all GPUs' batches together"
    )
    momentum: float = _setting(0.9, RealNumber(0), "--momentum", "momentum of sgd", "training.momentum")
    weight_decay: float = _setting(1e-4, RealNumber(0), "--weight-decay", "weight decay", "training.weight_decay")
    no_bn_weight_decay: bool = _setting(
        False, Switch(), "--no-bn-weight-decay", "no weight decay of batch norms and biases"
    )
    grad_clip: float = _setting(
        1.0, RealNumber(0), "--grad-clip", "largest norm of all gradients together; 0: any", "training.grad_clip"
    )


@dataclass
class SchedulerConfig(_Checked):
    """Scheduler"""

    name: str = _setting(
        "multistep",
        Choice(("multistep", "cosine", "onecycle")),
        "--scheduler",
        "course of the learning rate",
        "lr.lr_schedule_type",
    )
    max_lr: float = _setting(0.1, RealNumber(0), "--max-lr", "highest learning rate of onecycle")
    pct_start: float = _setting(
        0.3, RealNumber(0, 1), "--pct-start", "share of onecycle in which the rate rises", "lr.pct_start"
    )
    milestones: str = _setting(
        "30,60,80", Milestones(), "--milestones", "epochs at which the rate of multistep falls", "lr.milestones"
    )
    gamma: float = _setting(0.1, RealNumber(0), "--gamma", "factor there", "lr.step_ratio")


@dataclass
class OptimizationConfig(_Checked):
    """Optimizations"""

    amp: str = _setting("fp16", Choice(tuple(PRECISIONS)), "--amp", "mixed precision; fp16 without a GPU is off")
    progressive_resize: bool = _setting(False, Switch(), "--progressive-resize", "images grow during the training")
    progressive_schedule: str = _setting(
        "", Stages(), "--progressive-schedule", f"how they do; with --progressive-resize {DEFAULT_PROGRESSIVE_SCHEDULE}"
    )
    compile: bool = _setting(
        True, Switch(), "--compile", "torch.compile; where that fails, training goes on without", "training.compile"
    )
    channels_last: bool = _setting(
        True, Switch(), "--channels-last", "channels-last memory format", "training.channels_last"
    )


@dataclass
class DistributedConfig(_Checked):
    """Distributed"""

    enabled: bool = _setting(
        False, Switch(), "--distributed", "several GPUs: torchrun's processes, or else one started here for each"
    )
    world_size: int = _setting(
        0, WholeNumber(0), "--world-size", "processes to start without torchrun; 0: one for each GPU"
    )


@dataclass
class OutputConfig(_Checked):
    """Output"""

    checkpoint_dir: str = _setting(
        "./checkpoints", Text("a path"), "--checkpoint-dir", "each run gets a folder in this one", "logging.folder"
    )
    log_dir: str = _setting(
        "./logs", Text("a path"), "--log-dir", "in this one its params.json and log are kept, too", "logging.log_folder"
    )
    checkpoint_every: int = _setting(
        1, WholeNumber(0), "--checkpoint-every", "epochs between checkpoints; 0: none", "training.checkpoint_every"
    )
    checkpoint_minutes: float = _setting(
        0.0,
        RealNumber(0),
        "--checkpoint-minutes",
        "minutes between checkpoints in mid-epoch; 0: none",
        "training.checkpoint_minutes",
    )
    resume: str = _setting(
        "",
        Text("a path, or auto"),
        "--resume",
        "go on with this run; auto: the newest in --checkpoint-dir, if there is one",
        "training.resume",
    )
    telemetry: float = _setting(
        0.0, RealNumber(0), "--telemetry", "seconds between samples of the GPU's state; 0: none", "logging.telemetry"
    )


@dataclass
class TrainingConfig(_Checked):
    """Training"""

    epochs: int = _setting(90, WholeNumber(1), "--epochs", "number of epochs", "training.epochs")
    label_smoothing: float = _setting(
        0.0, RealNumber(0, 1), "--label-smoothing", "label smoothing of the loss", "training.label_smoothing"
    )
    seed: int = _setting(0, WholeNumber(0, 2**63 - 1), "--seed", "of weights, order and augmentations", "training.seed")
    device: str = _setting(
        "auto", Choice(("auto", "cpu", "cuda")), "--device", "auto: a GPU where there is one", "training.device"
    )
    max_steps: int = _setting(0, WholeNumber(0), "--max-steps", "stop after so many; 0: do not", "training.max_steps")
    eval_only: bool = _setting(
        False, Switch(), "--eval-only", "evaluate --weights or --resume, then stop", "training.eval_only"
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def to_trainer_config(self, **options: Any) -> TrainerConfig:
        """The trainer's configuration that says the same.

        Args:
            **options: of the trainer by their dotted names, which win: `**{"training.use_blurpool": 1}`.

        Raises:
            ConfigurationError: settings exclude each other, or there are no data.
        """
        # Late: it knows this module.
        from translation import translate

        return translate(self, options)

    def sections(self) -> tuple[Any, ...]:
        """The parts of the configuration, and this one itself, as flags are grouped."""
        parts = (self.data, self.model, self, self.optimizer, self.optimization, self.scheduler)
        return (*parts, self.distributed, self.output)


@dataclass(frozen=True)
class Setting:
    """One setting as a command line needs it; `option` is the trainer's where that takes the value as it is."""

    name: str
    default: Any
    check: Check
    flag: str
    help: str
    option: str


def settings_of(section: Any) -> Iterator[Setting]:
    """The settings of one part of a configuration."""
    for item in fields(section):
        if item.metadata:
            yield Setting(item.name, item.default, **item.metadata)


def all_settings() -> Iterator[tuple[str, Setting]]:
    """Every setting with the name of its group, in the order of `--help`."""
    for section in get_default_config().sections():
        for setting in settings_of(section):
            yield (type(section).__doc__ or "").partition("\n")[0], setting


def get_default_config() -> TrainingConfig:
    """A new configuration, all defaults."""
    return TrainingConfig()
