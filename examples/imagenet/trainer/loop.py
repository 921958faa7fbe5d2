"""`Trainer`: trains, evaluates and writes a run's folder, for one process of a training.

with Trainer(config) as trainer:
    trainer.train()
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from .checkpoint import (
    Checkpoint,
    check_same_training,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
    write_durably,
)
from .config import TrainerConfig
from .data import Batch, Source, count_classes, open_training, open_validation
from .distributed import (
    Ranks,
    average_over_ranks,
    choose_device,
    process_group,
    seed_generators,
    share_buffers,
    sum_over_ranks,
)
from .errors import CheckpointError, ConfigurationError, TrainingError
from .model import make_model, parameter_groups, plain_weights
from .runlog import WEIGHTS, RunLog, describe_setup, new_run_folder
from .schedule import epoch_learning_rates, resolution_of_epoch

__all__ = ["EpochResult", "Scores", "Trainer", "choose_precision"]

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class EpochResult:
    """What came of one epoch of training.

    Attributes:
        loss: mean over all steps and ranks.
        steps: steps made.
        complete: whether these were all the epoch's steps (`training.max_steps` may stop it).
        images_per_second: of all ranks, from the second step on (the first one compiles and fills caches).
        seconds: time it took.
    """

    loss: float
    steps: int
    complete: bool
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Scores:
    """What came of a validation: shares of the images whose label is the best guess, or among the best five."""

    top_1: float
    top_5: float
    loss: float
    seconds: float


class _Bar(tqdm):
    """A progress bar without tqdm's watching thread."""

    monitor_interval = 0


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype that convolutions compute in.

    Raises:
        ConfigurationError: fp16 on a CPU.
    """
    if wanted == "auto":
        wanted = "fp16" if device.type == "cuda" else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigurationError("training.precision=fp16 needs a GPU, and there is none: use bf16 or fp32")
    return _DTYPES[wanted]


class Trainer:
    """One process of a training. A context manager: leaving it gives data, threads and process group back.

    Args:
        config: everything that decides the training.
        ranks: this process among the others.
        run_folder: folder for what the run writes; `None` makes a new one in `logging.folder`. A resumed run
            stays in its own.
        config_name: name of the configuration in reports.

    Attributes:
        run_folder: that folder.
        model: the network on its device, not wrapped for several ranks.
        epoch: epochs that are done.
    """

    def __init__(
        self,
        config: TrainerConfig,
        ranks: Ranks | None = None,
        run_folder: Path | None = None,
        config_name: str = "",
    ) -> None:
        self.config = config
        self.ranks = ranks or Ranks()
        self.device = choose_device(config.training.device, self.ranks)
        self.dtype = choose_precision(config.training.precision, self.device)
        self.epoch = 0
        self.steps = 0
        resumed = self._find_resumed()
        folder = find_checkpoint(config.training.resume).parent.absolute() if resumed else run_folder
        self.run_folder = folder or new_run_folder(config.logging.folder)
        with ExitStack() as stack:
            stack.enter_context(process_group(self.ranks, self.device))
            self._open_data(stack)
            self._make_model(resumed)
            self.log = self._open_log(resumed, config_name) if self.ranks.is_main else None
            self._stack = stack.pop_all()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Give back data, threads and process group. Safe to call twice."""
        self._stack.close()

    def _find_resumed(self) -> Checkpoint | None:
        if not self.config.training.resume:
            return None
        checkpoint = load_checkpoint(find_checkpoint(self.config.training.resume))
        check_same_training(checkpoint, self.config, self.ranks.world)
        return checkpoint

    def _open_data(self, stack: ExitStack) -> None:
        arguments = (self.config, self.ranks, self.device, self.dtype)
        self.validation_source = open_validation(*arguments)
        stack.callback(self.validation_source.close)
        sources = [self.validation_source]
        self.training_source: Source | None = None
        if not self.config.training.eval_only:
            self.training_source = open_training(*arguments)
            stack.callback(self.training_source.close)
            sources.insert(0, self.training_source)
        self.classes = count_classes(self.config.data.classes, sources)

    def _make_model(self, resumed: Checkpoint | None) -> None:
        training = self.config.training
        # The same weights on all ranks.
        seed_generators(training.seed)
        model = make_model(self.config.model, self.classes, training.use_blurpool)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        # The wrapped model shares gradients. Validation uses the plain one: ranks may have more or fewer batches.
        self._wrapped: nn.Module = self.model
        if self.ranks.world > 1:
            self._wrapped = DistributedDataParallel(
                self.model, device_ids=[self.device] if self.device.type == "cuda" else None
            )
        groups = parameter_groups(self.model, training.weight_decay)
        self.optimizer = torch.optim.SGD(groups, lr=self.config.lr.lr, momentum=training.momentum)
        self.scaler = _make_scaler(enabled=self.dtype is torch.float16)
        self.loss = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        if resumed is not None:
            self._restore(resumed)

    def _restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.classes != self.classes:
            raise CheckpointError(
                f"run {checkpoint.uuid} has {checkpoint.classes} classes, these data have {self.classes}: "
                "resume with the data that it was started with"
            )
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scaler.load_state_dict(checkpoint.scaler)
        self.epoch = checkpoint.epoch
        self.steps = checkpoint.epoch * (len(self.training_source) if self.training_source else 0)

    def _open_log(self, resumed: Checkpoint | None, config_name: str) -> RunLog:
        log = RunLog(self.run_folder, resumed.seconds if resumed else 0.0)
        if resumed is None:
            log.write_params(self.config, config_name, describe_setup(self.device, self.ranks))
        elif not self.config.training.eval_only:
            log.keep_epochs_before(resumed.epoch)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        precision, setup = str(self.dtype).removeprefix("torch."), describe_setup(self.device, self.ranks)
        self._say(
            f"{self.config.model.arch}: {parameters:,} parameters, {self.classes} classes, {precision} on {setup}"
        )
        self._say(f"run {self.run_folder}")
        return log

    def _say(self, text: str) -> None:
        if self.ranks.is_main:
            tqdm.write(text)

    # Training

    def train(self) -> None:
        """Train the epochs that are left, evaluate, and write log, checkpoints and final weights.

        Raises:
            TrainingError: the loss is no number any more.
        """
        epochs = self.config.training.epochs
        if self.epoch >= epochs:
            self._say(f"all {epochs} epochs are done already")
        while self.epoch < epochs and not self._out_of_steps():
            result = self.train_epoch(self.epoch)
            share_buffers(self.model)
            self._evaluate_after(result)
            if not result.complete:
                break
            self.epoch += 1
            self._checkpoint()
        if self.ranks.is_main:
            weights = plain_weights(self.model.state_dict())
            write_durably(self.run_folder / WEIGHTS, lambda path: torch.save(weights, path))

    def _out_of_steps(self) -> bool:
        return 0 < self.config.training.max_steps <= self.steps

    def train_epoch(self, epoch: int) -> EpochResult:
        """Train one epoch (counted from 0), or as much of it as `training.max_steps` leaves."""
        if self.training_source is None:
            raise ConfigurationError("training.eval_only=1: there is no training set open")
        steps = len(self.training_source)
        most = self.config.training.max_steps
        planned = min(steps, most - self.steps) if most else steps
        seed_generators(self.config.training.seed, epoch, self.ranks.rank)
        start = time.perf_counter()
        loss, second_step = self._train_steps(self.training_source, epoch, planned)
        end = time.perf_counter()
        self.steps += planned
        if not math.isfinite(loss):
            raise TrainingError(
                f"epoch {epoch}: the mean loss is {loss}: try a lower --lr.lr, or --training.precision=fp32"
            )
        timed_images = (planned - 1) * self.config.training.batch_size * self.ranks.world
        rate = timed_images / max(end - second_step, 1e-9)
        return EpochResult(loss, planned, planned == steps, rate, end - start)

    def _train_steps(self, source: Source, epoch: int, planned: int) -> tuple[float, float]:
        """Make `planned` steps; the mean loss of all ranks, and the time at which the second step began."""
        rates = epoch_learning_rates(self.config.lr, self.config.training.epochs, epoch, len(source))
        resolution = resolution_of_epoch(self.config.resolution, epoch)
        total = torch.zeros((), device=self.device)
        second_step = 0.0
        self._wrapped.train()
        batches = source.epoch(epoch, resolution)
        for step, (images, labels) in enumerate(self._shown(batches, planned, epoch, resolution)):
            loss = self._step(images, labels, float(rates[step]))
            total += loss
            self._show_loss(loss)
            if step == 0:
                self._synchronize()
                second_step = time.perf_counter()
        _close(batches)
        # Reading the value waits for the GPU.
        return float(average_over_ranks(total / planned)), second_step

    def _step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.loss(self._wrapped(images), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if enabled else None, enabled=enabled)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # What is shown

    def _shown(self, batches: Iterator[Batch], steps: int, epoch: int, resolution: int) -> Iterator[Batch]:
        """The batches behind a progress bar in images, with images a second and the time left."""
        training, world = self.config.training, self.ranks.world
        title = f"epoch {epoch + 1}/{training.epochs} {resolution} px"
        yield from self._with_bar(islice(batches, steps), steps * training.batch_size * world, title)

    def _with_bar(self, batches: Iterator[Batch], images: int, title: str) -> Iterator[Batch]:
        self._bar = _Bar(
            total=images, desc=title, unit=" images", disable=not self.ranks.is_main, leave=False, dynamic_ncols=True
        )
        with self._bar as bar:
            for batch in batches:
                yield batch
                bar.update(min(len(batch[1]) * self.ranks.world, images - bar.n))

    def _show_loss(self, loss: torch.Tensor) -> None:
        # Reading the loss waits for the GPU: only on request.
        if self.config.logging.log_level > 1 and self.ranks.is_main:
            self._bar.set_postfix(loss=f"{loss.item():.3f}", lr=f"{self.optimizer.param_groups[0]['lr']:.4f}")

    # Evaluation

    def evaluate(self) -> Scores:
        """Evaluate the model and log the result; what `training.eval_only` does."""
        scores = self.validate()
        if self.log is not None:
            self.log.write(**self._scored(scores))
            self._say(f"top-1 {scores.top_1:.2%}  top-5 {scores.top_5:.2%}  in {scores.seconds:.1f} s")
        return scores

    def _evaluate_after(self, result: EpochResult) -> None:
        """Evaluate and log an epoch: each one, or with log level 0 the last one only."""
        epoch = self.epoch
        last = epoch + 1 == self.config.training.epochs or self._out_of_steps()
        if self.config.logging.log_level == 0 and not last:
            return
        scores = self.validate()
        if self.log is None:
            return
        resolution = resolution_of_epoch(self.config.resolution, epoch)
        entry = self.log.write(
            **self._scored(scores),
            epoch=epoch,
            train_loss=result.loss,
            train_time=result.seconds,
            images_per_second=result.images_per_second,
            resolution=resolution,
            steps=result.steps,
        )
        self._say(
            f"epoch {epoch + 1}/{self.config.training.epochs}  {resolution} px  loss {result.loss:.3f}  "
            f"top-1 {scores.top_1:.2%}  top-5 {scores.top_5:.2%}  {result.images_per_second:,.0f} images/s  "
            f"{entry['relative_time']:.0f} s"
        )

    def _scored(self, scores: Scores) -> dict[str, float]:
        return {
            "current_lr": self.optimizer.param_groups[0]["lr"],
            "top_1": scores.top_1,
            "top_5": scores.top_5,
            "val_loss": scores.loss,
            "val_time": scores.seconds,
        }

    @torch.no_grad()
    def validate(self) -> Scores:
        """Evaluate the model on the validation set: every image counts once, on any number of ranks."""
        start = time.perf_counter()
        self.model.eval()
        source = self.validation_source
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        views = 2 if self.config.validation.lr_tta else 1
        batches = source.epoch(0, self.config.validation.resolution)
        for images, labels in self._with_bar(batches, source.images, "validation"):
            outputs = self._outputs(images)
            sums += _count(outputs, labels, views)
        correct, among_five, loss, images_seen = sum_over_ranks(sums).tolist()
        if not images_seen:
            raise TrainingError(f"{source.path}: there are no images to evaluate on")
        seconds = time.perf_counter() - start
        return Scores(correct / images_seen, among_five / images_seen, loss / images_seen, seconds)

    def _outputs(self, images: torch.Tensor) -> torch.Tensor:
        """The model's outputs; with `validation.lr_tta` those of the images and of their mirror images added."""
        with self._autocast():
            outputs = self.model(images)
            if self.config.validation.lr_tta:
                outputs = outputs + self.model(images.flip(3))
        return outputs.float()

    def _checkpoint(self) -> None:
        every = self.config.training.checkpoint_every
        last = self.epoch == self.config.training.epochs
        if self.log is None or not every or (self.epoch % every and not last):
            return
        checkpoint = Checkpoint(
            uuid=self.run_folder.name,
            epoch=self.epoch,
            world=self.ranks.world,
            classes=self.classes,
            seconds=self.log.seconds,
            params=self.config.as_params(),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
        )
        save_checkpoint(self.run_folder, checkpoint)


def _count(outputs: torch.Tensor, labels: torch.Tensor, views: int) -> torch.Tensor:
    """Sums over a batch: best guess right, label among the best five, loss, images; float64[4].

    `outputs` are sums over `views` of each image. With fewer than five classes the best five are all of them.
    """
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    loss = nn.functional.cross_entropy(outputs / views, labels, reduction="sum")
    count = torch.full((), len(labels), dtype=torch.float64, device=outputs.device)
    return torch.stack([best[:, 0].sum().double(), best.sum().double(), loss.double(), count])


def _make_scaler(enabled: bool) -> torch.amp.GradScaler:
    # Its name since torch 2.3; before, it was torch.cuda.amp's.
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def _close(batches: Iterator[Batch]) -> None:
    """End a generator that was left early, so that its loader's threads end now."""
    close = getattr(batches, "close", None)
    if close is not None:
        close()
