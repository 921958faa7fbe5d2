"""The one configuration of the trainer: every front end translates its own options into a `TrainerConfig`.

Sections, names and defaults are those of FFCV's ImageNet example; what ffx adds stands last in its section.
Each field carries its help and its check, so that command lines, `--help` and documentation come from here, and a
configuration that is made in Python is checked like one from a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from .errors import ConfigurationError
from .values import Architecture, Check, Choice, Milestones, RealNumber, Stages, Switch, TcpAddress, Text, WholeNumber

__all__ = [
    "SECTIONS",
    "DataConfig",
    "DistributedConfig",
    "LearningRateConfig",
    "LoggingConfig",
    "ModelConfig",
    "OptionInfo",
    "RecipeConfig",
    "ResolutionConfig",
    "RunConfig",
    "TrainerConfig",
    "ValidationConfig",
    "all_options",
]


OPTIMIZERS = ("sgd", "adamw", "adam", "adagrad", "adadelta", "lars", "muon")
_IF_INSTALLED = ("auto", "on", "off")
_WITH_MOMENTUM = ("sgd", "lars", "muon")
_WITH_LAST_RATE = ("cosine", "onecycle")
# Less gives shares of 0 and of 1 alone, and torch's distribution fails near 0.
_LEAST_ALPHA = 1e-3
_WITH_WARMUP = ("step", "multistep", "cosine")


def _option(default: Any, check: Check, help_text: str) -> Any:
    return field(default=default, metadata={"check": check, "help": help_text})


class _Section:
    """Checks every field of a section by the check in its metadata."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            try:
                parsed = item.metadata["check"].parse(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise ConfigurationError(
                    f"{type(self).__name__}.{item.name}: expected {item.metadata['check'].expected}, found {value!r}"
                ) from error
            object.__setattr__(self, item.name, parsed)


@dataclass(frozen=True)
class ModelConfig(_Section):
    """Which network."""

    arch: str = _option("resnet18", Architecture(), "network of torchvision.models")
    pretrained: bool = _option(False, Switch(), "start from torchvision's ImageNet weights (fetched once)")
    weights: str = _option("", Text(), "start from this file of weights, such as a run's final_weights.pt")
    new_last_layer: bool = _option(
        False, Switch(), "of model.pretrained or model.weights take all but the last layer, which begins anew"
    )
    zero_init: bool = _option(
        False, Switch(), "residual blocks begin as the identity: the scale of each one's last batch norm is 0 at first"
    )


@dataclass(frozen=True)
class ResolutionConfig(_Section):
    """Side of the training images, in pixels, by epoch."""

    min_res: int = _option(160, WholeNumber(1), "side of the images up to epoch start_ramp, in pixels")
    max_res: int = _option(160, WholeNumber(1), "side of the images from epoch end_ramp, in pixels")
    end_ramp: int = _option(0, WholeNumber(0), "epoch from which images have max_res")
    start_ramp: int = _option(0, WholeNumber(0), "epoch up to which images have min_res")
    schedule: str = _option(
        "", Stages(), "instead of the four: 'epoch,side,batch;...', from each epoch on; batch (may be left out) a rank"
    )


@dataclass(frozen=True)
class DataConfig(_Section):
    """Where images come from."""

    train_dataset: str = _option(
        "",
        Text("a path"),
        "training set: a file of ffx or FFCV, its address (s3://...), or a folder of class folders",
    )
    val_dataset: str = _option("", Text("a path"), "validation set, likewise")
    num_workers: int = _option(-1, WholeNumber(-1), "threads (folder: processes) that load, a rank; -1: one a core")
    in_memory: bool = _option(True, Switch(), "the training file fits into memory; 0: its pages are read ahead")
    on_error: str = _option(
        "raise",
        Choice(("raise", "substitute")),
        "a training image of a file that cannot be used: raise ends the training, substitute takes another",
    )
    source: str = _option(
        "auto",
        Choice(("auto", "ffx", "folder", "synthetic", "cifar10")),
        "kind of data set; auto: by what the path is; cifar10: torchvision's, in the folder that both paths name",
    )
    classes: int = _option(0, WholeNumber(0), "number of classes; 0: from the data")
    synthetic_images: int = _option(10_000, WholeNumber(1), "images an epoch of source synthetic")
    synthetic_val_images: int = _option(0, WholeNumber(0), "images of its validation; 0: a tenth of synthetic_images")
    augmentation: str = _option(
        "imagenet",
        Choice(("imagenet", "cifar")),
        "imagenet: random resized crop; cifar: images as they are, moved by up to 4 pixels, CIFAR's mean and deviation",
    )
    download: bool = _option(False, Switch(), "source cifar10: fetch it where it is not there")
    cache_dir: str = _option(
        "", Text("a path"), "files behind addresses: folder on a local disk that keeps what was fetched; '': ffx's own"
    )
    cache_gb: float = _option(
        0.0, RealNumber(0), "files behind addresses: limit of what is kept, in 10^9 bytes; 0: by what the disk has"
    )


@dataclass(frozen=True)
class LearningRateConfig(_Section):
    """The learning rate's course."""

    step_ratio: float = _option(0.1, RealNumber(0), "schedules step and multistep: factor at each step")
    step_length: int = _option(30, WholeNumber(1), "schedule step: epochs between steps")
    lr_schedule_type: str = _option(
        "cyclic", Choice(("cyclic", "step", "multistep", "cosine", "onecycle")), "course of the learning rate"
    )
    lr: float = _option(0.5, RealNumber(0), "highest learning rate, for the whole batch of all ranks; never rescaled")
    lr_peak_epoch: int = _option(2, WholeNumber(0), "schedule cyclic: epoch of the highest learning rate")
    milestones: str = _option("30,60,80", Milestones(), "schedule multistep: epochs at which the rate falls")
    pct_start: float = _option(0.3, RealNumber(0, 1), "schedule onecycle: share of all steps in which the rate rises")
    final_lr: float = _option(0.0, RealNumber(0), "schedules cosine and onecycle: the last learning rate")
    warmup_epochs: int = _option(
        0, WholeNumber(0), "schedules step, multistep and cosine: epochs in which the rate rises from 0 to its course"
    )


@dataclass(frozen=True)
class LoggingConfig(_Section):
    """What is written where."""

    folder: str = _option("runs", Text("a path"), "each run gets a folder of its own in this one")
    log_folder: str = _option("", Text("a path"), "in this folder each run's params.json and log are kept as well")
    log_level: int = _option(1, WholeNumber(0, 2), "0: evaluate at the end only; 1: each epoch; 2: show the loss too")
    tensorboard: str = _option("auto", Choice(_IF_INSTALLED), "curves for TensorBoard; auto: where it is installed")
    wandb: str = _option(
        "auto", Choice(_IF_INSTALLED), "Weights & Biases; auto: where it is installed and WANDB_API_KEY or _MODE is set"
    )
    wandb_project: str = _option("ffx", Text("a name"), "project there")
    curves: bool = _option(True, Switch(), "draw curves.png at the end, where matplotlib is installed")
    telemetry: float = _option(0.0, RealNumber(0), "seconds between samples of the GPU and the process; 0: none")
    timings: bool = _option(
        False, Switch(), "show times of load, copy and compute; wait for a GPU at each, so that its work counts there"
    )
    profile: str = _option(
        "", Text("a path"), "write a Chrome trace of up to five steps of the first epoch here (torch.profiler, rank 0)"
    )
    print_every: int = _option(
        0, WholeNumber(0), "steps between lines with times, loss and accuracy, which take the bar's place; 0: a bar"
    )
    export_folder: str = _option(
        "", Text("a path"), "checkpoint.pth.tar and model_best.pth.tar, the newest and the best checkpoint, go there"
    )


@dataclass(frozen=True)
class ValidationConfig(_Section):
    """How a model is evaluated."""

    batch_size: int = _option(512, WholeNumber(1), "images a batch and rank")
    resolution: int = _option(224, WholeNumber(1), "side of the images, in pixels")
    lr_tta: bool = _option(True, Switch(), "add the outputs for an image and for its mirror image")
    plain_resolution: int = _option(
        224, WholeNumber(0), "at the end also without mirror images at this side, by ffx and by Pillow; 0: do not"
    )


@dataclass(frozen=True)
class RunConfig(_Section):
    """How a model is trained (section `training`)."""

    eval_only: bool = _option(False, Switch(), "evaluate model.weights, training.resume or model.pretrained, then stop")
    batch_size: int = _option(512, WholeNumber(1), "images a batch and rank")
    optimizer: str = _option("sgd", Choice(OPTIMIZERS), "the optimizer; lars and muon come from pytorch_optimizer")
    momentum: float = _option(0.9, RealNumber(0), "momentum of sgd, lars and muon")
    weight_decay: float = _option(4e-5, RealNumber(0), "weight decay; training.no_decay says what has none")
    epochs: int = _option(30, WholeNumber(1), "number of epochs")
    label_smoothing: float = _option(0.1, RealNumber(0, 1), "label smoothing of the loss")
    distributed: bool = _option(False, Switch(), "start dist.world_size processes on this machine")
    use_blurpool: bool = _option(False, Switch(), "blur before convolutions with a stride")
    seed: int = _option(0, WholeNumber(0, 2**63 - 1), "of the weights, the order and the augmentations")
    flip: bool = _option(True, Switch(), "mirror half of the training images")
    device: str = _option("auto", Choice(("auto", "cpu", "cuda")), "auto: a GPU where there is one")
    precision: str = _option(
        "auto", Choice(("auto", "fp16", "bf16", "fp32")), "auto: fp16 on a GPU, fp32 on a CPU; fp16 needs a GPU"
    )
    resume: str = _option(
        "",
        Text("a path, or auto"),
        "go on with this run: its folder, or a checkpoint in it; auto: the newest in logging.folder, if there is one",
    )
    checkpoint_every: int = _option(1, WholeNumber(0), "epochs between checkpoints; 0: none")
    checkpoint_minutes: float = _option(0.0, RealNumber(0), "minutes between checkpoints in mid-epoch; 0: none")
    allow_batch_change: bool = _option(
        False, Switch(), "when going on: allow another batch of all ranks together, which is another training"
    )
    nesterov: bool = _option(False, Switch(), "Nesterov's momentum (sgd, lars and muon)")
    no_decay: str = _option(
        "norms", Choice(("norms", "norms_and_biases", "nothing")), "parameters without weight decay"
    )
    grad_clip: float = _option(0.0, RealNumber(0), "largest norm of all gradients together; 0: any")
    compile: bool = _option(False, Switch(), "torch.compile; where that fails, a warning says why, and nothing is lost")
    channels_last: bool = _option(True, Switch(), "keep images and weights in channels-last memory")
    max_steps: int = _option(0, WholeNumber(0), "stop after so many steps, for measurements; 0: do not")
    start_epoch: int = _option(
        0, WholeNumber(0), "epoch, counted from 0, that a new run begins with; those before it are left out"
    )


@dataclass(frozen=True)
class RecipeConfig(_Section):
    """What is done beyond FFCV's recipe, each by one option (section `recipe`)."""

    ema: float = _option(
        0.0, RealNumber(0, 1), "decay of a moving average of the weights, which is evaluated in their place; 0: none"
    )
    loss: str = _option("ce", Choice(("ce", "bce")), "cross entropy, or binary cross entropy of each class")
    mixup: float = _option(0.0, RealNumber(0), "alpha of mixup; 0: none; with cutmix: one of them for each batch")
    cutmix: float = _option(0.0, RealNumber(0), "alpha of CutMix; 0: none")
    stochastic_depth: float = _option(
        0.0, RealNumber(0, 1), "probability with which the last residual block is left out; 0: none is"
    )
    randaugment: int = _option(0, WholeNumber(0, 30), "magnitude of RandAugment's two operations; 0: none")
    alternating_flip: bool = _option(False, Switch(), "mirror each image in every second epoch, instead of at random")


@dataclass(frozen=True)
class DistributedConfig(_Section):
    """How several processes find each other (section `dist`)."""

    world_size: int = _option(1, WholeNumber(1), "processes to start with training.distributed=1: one a GPU")
    address: str = _option("localhost", Text("a host name"), "where rank 0 listens")
    port: int = _option(12355, WholeNumber(0, 65535), "port there; 0: a free one (processes started here only)")
    url: str = _option(
        "", TcpAddress(), "tcp://HOST:PORT where rank 0 listens, whatever the launcher says; '': what that says"
    )
    backend: str = _option(
        "auto", Choice(("auto", "nccl", "gloo")), "what connects ranks; auto: NCCL for GPUs, gloo for CPUs"
    )


@dataclass(frozen=True)
class TrainerConfig:
    """Everything that decides a training. Sections are as on the command line: `config.lr.lr` is `--lr.lr`."""

    model: ModelConfig = ModelConfig()
    resolution: ResolutionConfig = ResolutionConfig()
    data: DataConfig = DataConfig()
    lr: LearningRateConfig = LearningRateConfig()
    logging: LoggingConfig = LoggingConfig()
    validation: ValidationConfig = ValidationConfig()
    training: RunConfig = RunConfig()
    recipe: RecipeConfig = RecipeConfig()
    dist: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        self._check_resolution()
        self._check_data()
        self._check_training()
        self._check_recipe()

    def _check_resolution(self) -> None:
        resolution = self.resolution
        if resolution.schedule:
            return
        if resolution.min_res > resolution.max_res:
            raise ConfigurationError(
                f"resolution.min_res={resolution.min_res} is above resolution.max_res={resolution.max_res}: "
                "resolution can only grow"
            )
        if resolution.start_ramp > resolution.end_ramp:
            raise ConfigurationError(
                f"resolution.start_ramp={resolution.start_ramp} is after resolution.end_ramp={resolution.end_ramp}"
            )

    def _check_data(self) -> None:
        if self.data.download and self.data.source != "cifar10":
            raise ConfigurationError(f"data.download=1 goes with data.source=cifar10, found {self.data.source}")
        if self.data.source == "synthetic":
            return
        if not self.data.val_dataset:
            raise ConfigurationError("data.val_dataset is missing: the file or folder to evaluate on")
        if not self.data.train_dataset and not self.training.eval_only:
            raise ConfigurationError("data.train_dataset is missing: the file or folder to train on")

    def _check_training(self) -> None:
        if self.model.pretrained and self.model.weights:
            raise ConfigurationError("model.pretrained=1 and model.weights exclude each other: both say where to start")
        if self.model.new_last_layer and not (self.model.pretrained or self.model.weights):
            raise ConfigurationError(
                "model.new_last_layer=1 goes with model.weights or model.pretrained=1: without them all layers are new"
            )
        if self.training.device == "cpu" and self.training.precision == "fp16":
            raise ConfigurationError("training.precision=fp16 needs a GPU: on a CPU use bf16 or fp32")
        training, kind = self.training, self.lr.lr_schedule_type
        if training.start_epoch >= training.epochs:
            raise ConfigurationError(
                f"training.start_epoch={training.start_epoch} leaves nothing of training.epochs={training.epochs}: "
                "epochs count from 0"
            )
        if training.nesterov and (training.optimizer not in _WITH_MOMENTUM or not training.momentum):
            raise ConfigurationError(
                f"training.nesterov=1 needs training.momentum above 0 and one of {', '.join(_WITH_MOMENTUM)}, found "
                f"training.optimizer={training.optimizer}, training.momentum={training.momentum:g}"
            )
        if kind in _WITH_LAST_RATE and self.lr.final_lr > self.lr.lr:
            raise ConfigurationError(
                f"lr.final_lr={self.lr.final_lr:g} is above lr.lr={self.lr.lr:g}, the highest rate of {kind}"
            )
        if self.lr.warmup_epochs and kind not in _WITH_WARMUP:
            raise ConfigurationError(
                f"lr.warmup_epochs={self.lr.warmup_epochs} goes with the schedules {', '.join(_WITH_WARMUP)}: "
                f"{kind} has a rise of its own"
            )

    def _check_recipe(self) -> None:
        if self.recipe.alternating_flip and not self.training.flip:
            raise ConfigurationError("recipe.alternating_flip=1 and training.flip=0 exclude each other")
        for name in ("mixup", "cutmix"):
            alpha = getattr(self.recipe, name)
            if 0 < alpha < _LEAST_ALPHA:
                raise ConfigurationError(
                    f"recipe.{name}={alpha:g}: expected 0, or an alpha of at least {_LEAST_ALPHA:g}"
                )
        for name in ("randaugment", "alternating_flip"):
            if self.data.source == "synthetic" and getattr(self.recipe, name):
                raise ConfigurationError(f"recipe.{name} needs images, data.source=synthetic has none: leave it out")

    def as_params(self) -> dict[str, Any]:
        """All options by their dotted names, as `params.json` holds them."""
        return {option.name: getattr(getattr(self, option.section), option.key) for option in all_options()}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> TrainerConfig:
        """The configuration with these options, by dotted names; the others have their defaults.

        Raises:
            ConfigurationError: an option is unknown, or a value is bad.
        """
        known = {option.name: option for option in all_options()}
        sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        for name, value in params.items():
            if name not in known:
                raise ConfigurationError(f"unknown option {name}")
            sections[known[name].section][known[name].key] = value
        made: dict[str, Any] = {name: kind(**sections[name]) for name, kind in SECTIONS.items()}
        return cls(**made)


@dataclass(frozen=True)
class OptionInfo:
    """One option as a front end or a document needs it."""

    section: str
    key: str
    default: Any
    check: Check
    help: str

    @property
    def name(self) -> str:
        """The dotted name, such as `lr.lr`."""
        return f"{self.section}.{self.key}"


SECTIONS: dict[str, type[_Section]] = {
    "model": ModelConfig,
    "resolution": ResolutionConfig,
    "data": DataConfig,
    "lr": LearningRateConfig,
    "logging": LoggingConfig,
    "validation": ValidationConfig,
    "training": RunConfig,
    "recipe": RecipeConfig,
    "dist": DistributedConfig,
}


def all_options() -> Iterator[OptionInfo]:
    """Every option, section by section."""
    for section, kind in SECTIONS.items():
        item: Field
        for item in fields(kind):  # type: ignore[arg-type]
            yield OptionInfo(section, item.name, item.default, item.metadata["check"], item.metadata["help"])
