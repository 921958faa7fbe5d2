"""One training by the trainer, and what its log says of each epoch."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from trainer.config import TrainerConfig
from trainer.signals import StopRequest

from .configuration import configuration
from .options import LabOptions

__all__ = ["Epoch", "Run", "read_run", "train"]


@dataclass(frozen=True)
class Epoch:
    """Seconds of an epoch, and what came of it.

    Attributes:
        number: counted from 1.
        load, copy, compute: waiting for data, copying to the device, forward and backward and the optimizer's step.
        total: all of the epoch's training; the three and what lies between them.
        steps: batches.
        loss: mean of the training.
        top_1: share of the validation images that are right.
        images_per_second: without the first step.
    """

    number: int
    load: float
    copy: float
    compute: float
    total: float
    steps: int
    loss: float
    top_1: float
    images_per_second: float


@dataclass(frozen=True)
class Run:
    """A training."""

    folder: Path
    epochs: tuple[Epoch, ...]

    def mean(self, what: str) -> float:
        """Mean of an attribute over all epochs."""
        return sum(getattr(epoch, what) for epoch in self.epochs) / len(self.epochs)

    def sum(self, what: str) -> float:
        """Sum of an attribute over all epochs."""
        return sum(getattr(epoch, what) for epoch in self.epochs)

    @property
    def last(self) -> Epoch:
        """The last epoch."""
        return self.epochs[-1]


def train(options: LabOptions, stop: StopRequest | None = None) -> Run:
    """Train as the options ask; with `print_epochs` the trainer shows each epoch.

    Raises:
        FfxError: what the trainer raises.
    """
    return run_trainer(configuration(options), options.print_epochs, stop)


def run_trainer(config: TrainerConfig, shown: bool, stop: StopRequest | None = None) -> Run:
    """Train by a configuration."""
    # Late, because importing torch takes seconds.
    from trainer.launch import launch

    run: Callable[..., Path] = launch
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # More workers than cores are what C3 is about.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        if not shown:
            stack.enter_context(redirect_stdout(io.StringIO()))
        return read_run(run(config, config.model.arch, stop))


def read_run(folder: Path) -> Run:
    """What a run's folder says of its epochs."""
    lines = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]
    epochs = [
        Epoch(
            number=line["epoch"] + 1,
            load=line["load_time"],
            copy=line["copy_time"],
            compute=line["compute_time"],
            total=line["train_time"],
            steps=line["steps"],
            loss=line["train_loss"],
            top_1=line["top_1"],
            images_per_second=line["images_per_second"],
        )
        for line in lines
    ]
    return Run(folder, tuple(epochs))
