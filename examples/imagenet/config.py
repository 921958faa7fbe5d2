"""The configuration of `run.py`, in dataclasses that may be changed; each assignment is checked.

    cfg = get_default_config()
    cfg.data.batch_size = 512
    cfg.optimizer.lr = 0.2

Flags, `--help` and defaults of `run.py` come from the fields here. `to_trainer_config()` translates to the trainer.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import checkout  # noqa: F401
from trainer.config import TrainerConfig, all_options
from trainer.errors import ConfigurationError
from trainer.values import Architecture, Check, Choice, Milestones, RealNumber, Stages, Switch, Text, WholeNumber

from ffx.errors import FfxWarning

__all__ = [
    "DEFAULT_PROGRESSIVE_SCHEDULE",
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
_BATCH_SIZE, _IMAGE_SIZE = 256, 224
# Networks halve images five times.
_SIDE_STEP = 32
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "off": "fp32"}
# Where the rate ends when nobody says so.
_LAST_RATES = {"onecycle": 0.001}
_LONG_TRAINING_EPOCHS = 10
_HIGHEST_USUAL_ADAMW_RATE = 0.01


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
        "./imagenet", Text("a path"), "--data-path", "folder with train/ and val/, or with train*.ffcv and val*.ffcv"
    )
    batch_size: int = _setting(
        _BATCH_SIZE, WholeNumber(1), "--batch-size", "images a batch and GPU", "training.batch_size"
    )
    image_size: int = _setting(_IMAGE_SIZE, WholeNumber(1), "--image-size", "side of the images, in pixels")
    workers: int = _setting(
        8,
        WholeNumber(-1),
        "--workers",
        "processes (files: threads) that load, a GPU; -1: one a core",
        "data.num_workers",
    )
    in_memory: bool = _setting(
        True,
        Switch(),
        "--in-memory",
        "a training file fits into memory; else its pages are read ahead",
        "data.in_memory",
    )
    s3_bucket: str = _setting("", Text(), "--s3-bucket", "remote data: not possible yet, an error says so")
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

    amp: str = _setting("fp16", Choice(tuple(_PRECISIONS)), "--amp", "mixed precision; fp16 without a GPU is off")
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
        self._warn_of_mistakes()
        direct = {
            setting.option: getattr(section, setting.name)
            for section in self.sections()
            for setting in settings_of(section)
            if setting.option
        }
        made = {**direct, **self._learning(), **self._images(), **self._processes(), **self._data(options), **options}
        return TrainerConfig.from_params(_without_unknown_telemetry(made))

    def sections(self) -> tuple[Any, ...]:
        """The parts of the configuration, and this one itself, as flags are grouped."""
        parts = (self.data, self.model, self, self.optimizer, self.optimization, self.scheduler)
        return (*parts, self.distributed, self.output)

    @property
    def progressive_schedule(self) -> str:
        """The images and batches from each epoch on, as the trainer takes them; empty when they stay as they are."""
        own = self.optimization.progressive_schedule
        return own or (self._default_schedule() if self.optimization.progressive_resize else "")

    def _default_schedule(self) -> str:
        stages = []
        for part in DEFAULT_PROGRESSIVE_SCHEDULE.split(";"):
            epoch, side, batch = map(int, part.split(","))
            steps = max(1, round(side * self.data.image_size / _IMAGE_SIZE / _SIDE_STEP))
            largest = self.data.image_size
            own_side = largest if side == _IMAGE_SIZE else min(steps * _SIDE_STEP, largest)
            stages.append(f"{epoch},{own_side},{max(1, round(batch * self.data.batch_size / _BATCH_SIZE))}")
        return ";".join(stages)

    def _learning(self) -> dict[str, Any]:
        name, optimizer = self.scheduler.name, self.optimizer
        return {
            "model.zero_init": self.model.zero_init == "on" or (self.model.zero_init == "auto" and self._has_blocks()),
            "lr.lr": self.scheduler.max_lr if name == "onecycle" else optimizer.lr,
            "lr.final_lr": _LAST_RATES.get(name, 0.0),
            "training.no_decay": "norms_and_biases" if optimizer.no_bn_weight_decay else "nothing",
            "training.precision": self._precision(),
        }

    def _has_blocks(self) -> bool:
        arch = self.model.arch
        return arch.startswith(("resnet", "resnext", "wide_resnet")) or arch in ("scratch_resnet50", "cifar_resnet18")

    def _precision(self) -> str:
        amp = self.optimization.amp
        if amp == "fp16" and not self._uses_gpu():
            _warn("--amp fp16 needs a GPU, and this training has none: it computes in fp32 (--amp bf16 works here)")
            return "fp32"
        return _PRECISIONS[amp]

    def _uses_gpu(self) -> bool:
        # Late, because importing torch takes seconds.
        import torch

        return self.device != "cpu" and torch.cuda.is_available()

    def _images(self) -> dict[str, Any]:
        side = self.data.image_size
        return {
            "resolution.min_res": side,
            "resolution.max_res": side,
            "resolution.schedule": self.progressive_schedule,
            "validation.resolution": side,
            "validation.batch_size": self.data.batch_size,
            "validation.lr_tta": False,
        }

    def _processes(self) -> dict[str, Any]:
        if not self.distributed.enabled:
            if self.distributed.world_size:
                raise ConfigurationError("--world-size goes with --distributed, which is not there")
            return {}
        world = self.distributed.world_size
        if not world:
            import torch

            world = max(1, torch.cuda.device_count()) if self._uses_gpu() else 1
        return {"training.distributed": True, "dist.world_size": world}

    def _data(self, options: dict[str, Any]) -> dict[str, Any]:
        if self.data.s3_bucket:
            raise ConfigurationError(
                f"--s3-bucket {self.data.s3_bucket}: reading from S3 is not possible yet: copy the data to a disk "
                "(aws s3 sync) and say where with --data-path"
            )
        if self.data.synthetic:
            return {"data.source": "synthetic"}
        if {"data.train_dataset", "data.val_dataset"} <= options.keys():
            return {}
        from data import find_data

        places = find_data(self.data.path)
        return {"data.train_dataset": str(places.train), "data.val_dataset": str(places.val)}

    def _warn_of_mistakes(self) -> None:
        """What is allowed, but hardly meant."""
        default = get_default_config()
        scheduler, optimizer = self.scheduler, self.optimizer
        one_cycle = scheduler.name == "onecycle"
        if one_cycle and optimizer.lr not in (default.optimizer.lr, scheduler.max_lr):
            _warn(f"--lr {optimizer.lr:g} is not used: onecycle rises to --max-lr, {scheduler.max_lr:g}")
        if not one_cycle and scheduler.max_lr not in (default.scheduler.max_lr, optimizer.lr):
            _warn(f"--max-lr {scheduler.max_lr:g} is not used: {scheduler.name} begins at --lr, {optimizer.lr:g}")
        first = int(scheduler.milestones.partition(",")[0])
        if scheduler.name == "multistep" and self.epochs >= _LONG_TRAINING_EPOCHS and first >= self.epochs:
            thirds = sorted({round(self.epochs * share) for share in (1 / 3, 2 / 3, 8 / 9)})
            _warn(
                f"the learning rate never falls: the first of --milestones {scheduler.milestones} is not before the "
                f"end, epoch {self.epochs}; --milestones {','.join(map(str, thirds))} are at the same shares of it"
            )
        rate = scheduler.max_lr if one_cycle else optimizer.lr
        if optimizer.name == "adamw" and rate > _HIGHEST_USUAL_ADAMW_RATE:
            _warn(f"a learning rate of {rate:g} is high for adamw: 0.001 is usual")


@dataclass(frozen=True)
class Setting:
    """One setting as a front end or a document needs it; `option` is the trainer's where it takes the value as it is."""

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


def _without_unknown_telemetry(options: dict[str, Any]) -> dict[str, Any]:
    """Telemetry is passed on where the trainer has it."""
    known = {option.name for option in all_options()}
    if "logging.telemetry" not in known:
        if options.pop("logging.telemetry", 0):
            raise ConfigurationError("--telemetry: this trainer samples nothing")
    if "validation.plain_resolution" in known:
        options.setdefault("validation.plain_resolution", 0)
    return options


def _warn(text: str) -> None:
    # Once, and not by each of torchrun's processes.
    if os.environ.get("RANK", "0") == "0":
        warnings.warn(text, FfxWarning, stacklevel=4)
