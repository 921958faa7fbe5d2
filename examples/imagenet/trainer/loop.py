"""`Trainer`: trains, evaluates and writes a run's folder, for one process of a training.

with Trainer(config) as trainer:
    trainer.train()
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from .agreement import Agreement, StopAgreed
from .checkpoint import Checkpoint, save_checkpoint
from .config import TrainerConfig
from .data import Source, count_classes, open_training, open_validation
from .display import Display
from .distributed import Ranks, choose_device, from_first_rank, process_group, seed_generators, seed_step
from .durable import write_durably
from .errors import CheckpointError, ConfigurationError, Interrupted, TrainingError
from .exported import export_checkpoint
from .learner import Learner, choose_precision
from .model import plain_weights
from .plain_validation import or_nothing, validate_plainly
from .profiling import traced
from .progress import EpochProgress, EpochRun
from .resuming import Resumed, has_other_batches, resume_together
from .runlog import LOG, PARAMS, WEIGHTS, RunLog, describe_setup, new_run_folder
from .schedule import EpochSizes, epoch_learning_rates, sizes_of_epoch
from .sealed import packed
from .signals import StopRequest, name_of, status_of
from .source import Batch
from .step_clock import StepTimes
from .step_lines import StepLines, accuracy_line
from .telemetry import Telemetry
from .trackers import CURVES, Trackers, draw_curves, open_trackers
from .validation import Scores, validate

__all__ = ["EpochResult", "Trainer"]


@dataclass(frozen=True)
class EpochResult:
    """What came of one epoch of training.

    Attributes:
        loss: mean over all images of all ranks.
        steps: steps made.
        complete: whether these were all the epoch's steps (`training.max_steps` may stop it).
        images_per_second: of all ranks, without each process's first step (which compiles and fills caches).
        seconds: time it took.
        times: where the first rank's time went.
    """

    loss: float
    steps: int
    complete: bool
    images_per_second: float
    seconds: float
    times: StepTimes = field(default_factory=StepTimes)


class Trainer:
    """One process of a training. A context manager: leaving it gives data, threads and process group back.

    Args:
        config: everything that decides the training.
        ranks: this process among the others.
        run_folder: folder for what the run writes; `None` makes a new one in `logging.folder`. A resumed run
            stays in its own.
        config_name: name of the configuration in reports.
        stop: asked after every step whether to write a checkpoint and stop; `None`: nobody asks that.

    Attributes:
        run_folder: that folder.
        model: the network on its device, not wrapped for several ranks.
        epoch: epochs that are done.
        steps: that were made in all epochs.
    """

    def __init__(
        self,
        config: TrainerConfig,
        ranks: Ranks | None = None,
        run_folder: Path | None = None,
        config_name: str = "",
        stop: StopRequest | None = None,
    ) -> None:
        self.config = config
        self.ranks = ranks or Ranks()
        self.device = choose_device(config.training.device, self.ranks)
        self.dtype = choose_precision(config.training.precision, self.device)
        self.epoch = config.training.start_epoch
        self.steps = 0
        self._best_top_1, self._is_best = -1.0, False
        self._progress: EpochProgress | None = None
        self._is_traced = False
        self._stop = stop or StopRequest()
        minutes = config.training.checkpoint_minutes
        self._agreement = Agreement(self._stop, self.ranks, self.device, minutes)
        logging = config.logging
        self._display = Display(
            self.ranks.is_main, self.ranks.world, logging.log_level > 1, shows_bars=not logging.print_every
        )
        with ExitStack() as stack:
            stack.enter_context(process_group(self.ranks, self.device, config.dist))
            resumed = resume_together(config, self.ranks)
            folder = resumed.folder if resumed else run_folder or new_run_folder(config.logging.folder)
            self.run_folder = Path(from_first_rank(str(folder)))
            self._open_data(stack)
            self.learner = Learner(config, self.classes, self.ranks, self.device, self.dtype, self._display.say)
            self.model = self.learner.model
            if resumed is not None:
                self._restore(resumed.checkpoint)
            self.log = self._open_log(resumed, config_name) if self.ranks.is_main else None
            self._trackers: Trackers | None = None
            self._telemetry: Telemetry | None = None
            if self.ranks.is_main:
                self._open_trackers(stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Give back data, threads and process group. Safe to call twice."""
        self._stack.close()

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

    def _restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.classes != self.classes:
            raise CheckpointError(
                f"run {checkpoint.uuid} has {checkpoint.classes} classes, these data have {self.classes}: "
                "resume with the data that it was started with"
            )
        self.learner.load(checkpoint.model, checkpoint.optimizer, checkpoint.scaler, checkpoint.average)
        self.epoch, self.steps, self._best_top_1 = checkpoint.epoch, checkpoint.steps, checkpoint.best_top_1
        if not checkpoint.progress or self.training_source is None:
            return
        self._progress = EpochProgress.from_dict(checkpoint.progress)
        if has_other_batches(checkpoint, self.config, self.ranks.world):
            self._progress = self._progress.with_other_ranks(self.ranks.world)
        self.training_source.load_state_dict(checkpoint.source)

    def _open_log(self, resumed: Resumed | None, config_name: str) -> RunLog:
        checkpoint = resumed.checkpoint if resumed else None
        seconds = checkpoint.seconds if checkpoint else 0.0
        log = RunLog(self.run_folder, seconds, self.config.logging.log_folder)
        setup = describe_setup(self.device, self.ranks)
        if checkpoint is None or not (self.run_folder / PARAMS).exists():
            log.write_params(self.config, config_name, setup)
        if checkpoint is not None and not self.config.training.eval_only:
            log.keep_epochs_before(checkpoint.epoch)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        precision, say = str(self.dtype).removeprefix("torch."), self._display.say
        say(f"{self.config.model.arch}: {parameters:,} parameters, {self.classes} classes, {precision} on {setup}")
        say(f"run {self.run_folder}")
        if self._progress and self.training_source:
            left = self._steps_left(self._progress)
            say(f"epoch {self.epoch + 1} goes on after {self._progress.images:,} images, with {left:,} steps to go")
        return log

    def _open_trackers(self, stack: ExitStack) -> None:
        config = self.config.logging
        self._trackers = open_trackers(config, self.run_folder, self.config.as_params(), self.epoch)
        stack.callback(self._trackers.close)
        self._telemetry = Telemetry(self.run_folder, config.telemetry, self.device)
        stack.callback(self._telemetry.close)

    # Training

    def train(self) -> None:
        """Train what is left, evaluate, and write log, checkpoints and final weights.

        Raises:
            TrainingError: the loss is no number any more.
            Interrupted: `stop` was asked for; a checkpoint is written.
        """
        epochs = self.config.training.epochs
        if self.epoch >= epochs:
            self._display.say(f"all {epochs} epochs are done already")
        while self.epoch < epochs and (self._progress or not self._out_of_steps()):
            result = self._train_epoch(self._progress or EpochProgress(self.epoch))
            self.learner.share_buffers()
            self._evaluate_after(result)
            if not result.complete:
                break
            self.epoch, self._progress = self.epoch + 1, None
            every = self.config.training.checkpoint_every
            is_due = every and (self.epoch % every == 0 or self.epoch == epochs)
            if is_due or (self._is_best and self.config.logging.export_folder):
                self._save()
        if self.ranks.is_main:
            weights = plain_weights(self.learner.evaluated.state_dict())
            write_durably(self.run_folder / WEIGHTS, packed(weights))
            if self.config.logging.curves:
                draw_curves(self.run_folder / LOG, self.run_folder / CURVES)

    def _out_of_steps(self) -> bool:
        return 0 < self.config.training.max_steps <= self.steps

    def train_epoch(self, epoch: int) -> EpochResult:
        """Train one epoch (counted from 0) from its beginning, or as much of it as `training.max_steps` leaves."""
        return self._train_epoch(EpochProgress(epoch))

    def _train_epoch(self, begun: EpochProgress) -> EpochResult:
        source = self.training_source
        if source is None:
            raise ConfigurationError("training.eval_only=1: there is no training set open")
        planned, most = self._steps_left(begun), self.config.training.max_steps
        if most:
            planned = min(planned, max(most - self.steps, 0))
        run = EpochRun(begun, self.ranks, self._sizes(begun.epoch).batch_size, self.device, source.purpose.clock)
        self._train_steps(source, run, begun, planned)
        self._progress = progress = run.progress()
        if run.steps < planned:
            raise TrainingError(f"{source.path}: expected {planned} more batches in this epoch, found {run.steps}")
        _demand_finite(begun.epoch, progress.loss)
        complete = self._steps_left(progress) == 0
        rate = progress.images_per_second
        times = StepTimes(progress.load_seconds, progress.copy_seconds, progress.compute_seconds)
        return EpochResult(progress.loss, progress.steps, complete, rate, progress.seconds, times)

    def _train_steps(self, source: Source, run: EpochRun, begun: EpochProgress, planned: int) -> None:
        """Make `planned` steps, and between them the checkpoints that are due."""
        if not planned:
            return
        epoch, training, world = begun.epoch, self.config.training, self.ranks.world
        sizes = self._sizes(epoch)
        rates = self._rates(source, begun)
        title = f"epoch {epoch + 1}/{training.epochs} {sizes.side} px"
        images_planned = begun.images + planned * sizes.batch_size * world
        seed_generators(training.seed, epoch, self.ranks.rank)
        lines = self._step_lines(source, begun)
        self.learner.train()
        self._agreement.begin()
        with closing(source.epoch(epoch, sizes.side, sizes.batch_size)) as batches, ExitStack() as stack:
            timed = source.purpose.clock.batches(islice(batches, planned))
            shown = self._display.batches(self._traced(timed, planned), images_planned, title, begun.images)
            stack.enter_context(closing(shown))
            for step, (images, labels) in enumerate(shown, begun.steps):
                # So that a process that goes on from here draws the same.
                seed_step(self.device, training.seed, epoch, self.ranks.rank, step)
                rate = float(rates[step - begun.leg_steps])
                loss = self.learner.step(images, labels, rate)
                self._display.loss(loss, rate)
                if lines is not None:
                    lines.add(step, loss, self.learner.step_outputs, labels)
                run.add(loss)
                self.steps += 1
                self._stop.can_save = True
                self._save_where_agreed(run)

    def _step_lines(self, source: Source, begun: EpochProgress) -> StepLines | None:
        every = self.config.logging.print_every
        if not every or not self.ranks.is_main:
            return None
        steps = begun.steps + self._steps_left(begun)
        return StepLines(every, begun.epoch, steps, source.purpose.clock, self._display.say)

    def _traced(self, batches: Iterator[Batch], steps: int) -> Iterator[Batch]:
        """The batches, with a trace of the first ones that this process trains on where that is wanted."""
        path = self.config.logging.profile
        if not path or self._is_traced or not self.ranks.is_main:
            return batches
        self._is_traced = True
        return traced(batches, steps, Path(path).expanduser(), self.device, self._display.say)

    def _rates(self, source: Source, begun: EpochProgress) -> list[float]:
        """The learning rates of the steps that the ranks of now make in an epoch."""
        steps = begun.steps - begun.leg_steps + self._steps_left(begun)
        images = begun.leg_images + steps * self._sizes(begun.epoch).batch_size * self.ranks.world
        done = begun.leg_images / max(images, 1)
        epochs = range(self.config.training.epochs)
        steps_by_epoch = [source.steps_left(0, self._sizes(epoch).batch_size) for epoch in epochs]
        return epoch_learning_rates(self.config.lr, steps_by_epoch, begun.epoch, steps, done).tolist()

    def _sizes(self, epoch: int) -> EpochSizes:
        return sizes_of_epoch(self.config.resolution, self.config.training, epoch)

    def _steps_left(self, progress: EpochProgress) -> int:
        """Whole batches for each rank in what is left of an epoch."""
        assert self.training_source is not None
        return self.training_source.steps_left(progress.images, self._sizes(progress.epoch).batch_size)

    # Stopping, checkpoints

    def _save_where_agreed(self, run: EpochRun) -> None:
        decision = self._agreement.after_step()
        if not decision.stop and not decision.save:
            return
        self._progress = run.progress()
        # No weights that are lost already take the place of a good checkpoint.
        _demand_finite(self._progress.epoch, self._progress.loss)
        if decision.stop:
            self._save_and_stop(decision.stop)
        self._save()

    def _save(self) -> None:
        """Write a checkpoint of this moment. All ranks call this together; they go on when it is written."""
        self._agreement.saved()
        if self.log is not None:
            in_epoch = self._progress is not None and self.training_source is not None
            checkpoint = Checkpoint(
                uuid=self.run_folder.name,
                epoch=self.epoch,
                world=self.ranks.world,
                classes=self.classes,
                seconds=self.log.seconds,
                params=self.config.as_params(),
                **self.learner.state_dicts(),
                steps=self.steps,
                progress=self._progress.as_dict() if in_epoch else {},
                source=self.training_source.state_dict() if in_epoch else {},
                best_top_1=self._best_top_1,
            )
            path = save_checkpoint(self.run_folder, checkpoint)
            if self.config.logging.export_folder:
                export_checkpoint(path, self.config.logging.export_folder, self._is_best)
        self._is_best = False

    def _save_and_stop(self, number: int) -> NoReturn:
        self._save()
        # No rank ends, so that nobody ends the others, before the first one has written.
        from_first_rank("written")
        step = self._progress.steps if self._progress else 0
        raise Interrupted(
            f"{name_of(number)}: stopped in epoch {self.epoch + 1} behind step {step}, with a checkpoint: "
            f"--training.resume={self.run_folder} goes on",
            status_of(number),
        )

    # Evaluation

    def validate(self) -> Scores:
        """Evaluate the model on the validation set: every image counts once, on any number of ranks."""
        asked = self.config.validation
        scores = validate(
            self.learner, self.validation_source, asked.resolution, self._agreement, self._display, asked.lr_tta
        )
        if self.config.logging.print_every:
            self._display.say(accuracy_line(scores.top_1, scores.top_5))
        return scores

    def validate_plainly(self) -> dict[str, float]:
        """See `plain_validation.validate_plainly`."""
        return validate_plainly(self.config, self.ranks, self.learner, self._agreement, self._display)

    def evaluate(self) -> Scores:
        """Evaluate the model and log the result; what `training.eval_only` does."""
        try:
            scores = self.validate()
            plain = self.validate_plainly()
        except StopAgreed as stop:
            raise Interrupted(f"{name_of(stop.number)}: the evaluation was stopped", status_of(stop.number)) from stop
        if self.log is not None:
            self._write_entry(**self._scored(scores), **plain)
            self._display.say(f"top-1 {scores.top_1:.2%}  top-5 {scores.top_5:.2%}  in {scores.seconds:.1f} s")
        return scores

    def _evaluate_after(self, result: EpochResult) -> None:
        """Evaluate and log an epoch: each one, or with log level 0 the last one only."""
        epoch = self.epoch
        last = epoch + 1 == self.config.training.epochs or self._out_of_steps()
        if self.config.logging.log_level == 0 and not last:
            return
        try:
            scores = self.validate()
            plain = or_nothing(self.validate_plainly, self.config.validation.plain_resolution) if last else {}
        except StopAgreed as stop:
            # The epoch is trained: going on begins with its evaluation.
            self._save_and_stop(stop.number)
        self._is_best = scores.top_1 > self._best_top_1
        self._best_top_1 = max(scores.top_1, self._best_top_1)
        if self.log is None:
            return
        resolution, times = self._sizes(epoch).side, result.times
        entry = self._write_entry(
            **self._scored(scores),
            **plain,
            epoch=epoch,
            train_loss=result.loss,
            train_time=result.seconds,
            load_time=times.load,
            copy_time=times.copy,
            compute_time=times.compute,
            images_per_second=result.images_per_second,
            resolution=resolution,
            batch_size=self._sizes(epoch).batch_size,
            steps=result.steps,
            **(self._telemetry.means() if self._telemetry else {}),
        )
        self._display.say(
            f"epoch {epoch + 1}/{self.config.training.epochs}  {resolution} px  loss {result.loss:.3f}  "
            f"top-1 {scores.top_1:.2%}  top-5 {scores.top_5:.2%}  {result.images_per_second:,.0f} images/s  "
            f"{entry['relative_time']:.0f} s"
        )
        if self.config.logging.timings:
            self._display.say(
                f"  load {times.load:.3f} s  copy {times.copy:.3f} s  compute {times.compute:.3f} s  "
                f"of {result.seconds:.3f} s of training"
            )

    def _write_entry(self, **entry: Any) -> dict[str, Any]:
        """A line of the log, and a point of every curve."""
        assert self.log is not None
        line = self.log.write(**entry)
        if self._trackers:
            self._trackers.write(line)
        return line

    def _scored(self, scores: Scores) -> dict[str, float]:
        raw = {} if scores.raw_top_1 is None else {"raw_top_1": scores.raw_top_1}
        return {
            **raw,
            "current_lr": self.learner.rate,
            "top_1": scores.top_1,
            "top_5": scores.top_5,
            "val_loss": scores.loss,
            "val_time": scores.seconds,
        }


def _demand_finite(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"epoch {epoch}: the mean loss is {loss}: try a lower --lr.lr, or --training.precision=fp32"
        )
