"""Jobs of the simulated pool that are real trainings: processes that are really killed, and go on in new ones.

Each is killed behind the step that its schedule says: by SIGTERM, after which it writes a checkpoint and ends with 85,
or by SIGKILL, after which it goes on from the checkpoint before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from trainer.errors import TrainingError
from trainer.signals import REQUEUE

from . import HERE
from .options import MODEL
from .pool import Eviction, Times

__all__ = ["RealJob", "Training", "median_times", "run_job"]

_PROGRAM = HERE / "imagenet_resnet50.py"
_LINE = re.compile(r"^Epoch: \[(\d+)\]\[ *(\d+)/")
_SECONDS = 300.0


@dataclass(frozen=True)
class Training:
    """A small training, each of whose steps is shown.

    Attributes:
        data: folder of class folders, or a file or its address.
        images: in it.
        epochs, batch_size: of the training.
        flags: further ones of `imagenet_resnet50.py`.
    """

    data: str
    images: int
    epochs: int
    batch_size: int
    flags: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.images // self.batch_size

    def command(self, seed: int) -> list[str]:
        """The command line of job `seed`."""
        options = {
            "--data": self.data,
            "--epochs": self.epochs,
            "--batch-size": self.batch_size,
            "--seed": seed,
            "--log-interval": 1,
        }
        words = [str(word) for pair in options.items() for word in pair]
        return [sys.executable, str(_PROGRAM), *words, "--save-model", *self.flags]


@dataclass(frozen=True)
class RealJob:
    """What became of a real training.

    Attributes:
        weights: the file that came back.
        evictions: how often it was killed.
        statuses: exit statuses of its processes.
        starts, saves: seconds from each start to the first step, and from each SIGTERM to the end.
    """

    weights: Path
    evictions: int
    statuses: tuple[int, ...]
    starts: tuple[float, ...]
    saves: tuple[float, ...]


def run_job(training: Training, seed: int, evictions: Sequence[Eviction], folder: Path) -> RealJob:
    """Train in `folder`, killed at each eviction and started again, until it is done.

    Raises:
        TrainingError: a process ended in another way than it had to, took too long, or began anew what was kept: after
            SIGTERM all of it, after SIGKILL at least the epochs that were over.
    """
    folder.mkdir(parents=True)
    statuses, starts, saves = [], [], []
    reached = kept = 0
    for eviction in [*evictions, None]:
        # At least one step further, or an eviction would come before anything was done.
        share = 2.0 if eviction is None else eviction.share
        reached = max(int(share * training.steps * training.epochs), reached + 1)
        status, start, save, steps = _execute(training.command(seed), folder, training, reached, eviction)
        expected = 0 if eviction is None else -signal.SIGKILL if eviction.hard else REQUEUE
        if status not in (expected, 0):
            raise TrainingError(f"job {seed}: expected exit status {expected}, found {status}: {folder}")
        # The weights would be the same, too, if all were computed anew.
        if steps and min(steps) <= kept:
            raise TrainingError(f"job {seed}: expected to go on behind step {kept}, found step {min(steps)}: {folder}")
        if steps:
            kept = max(kept, max(steps) if status == REQUEUE else (max(steps) - 1) // training.steps * training.steps)
        statuses.append(status)
        starts += [start] if start else []
        saves += [save] if save and status == REQUEUE else []
        if status == 0:
            break
    made = sum(status != 0 for status in statuses)
    return RealJob(folder / MODEL, made, tuple(statuses), tuple(starts), tuple(saves))


def _execute(
    command: list[str], folder: Path, training: Training, step: int, eviction: Eviction | None
) -> tuple[int, float, float, list[int]]:
    """One process: its exit status, seconds to its first step and from the signal to its end, the steps it made."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    begun, start, asked = time.monotonic(), 0.0, 0.0
    steps: list[int] = []
    with (
        open(folder / "errors", "a") as errors,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        # A process that hangs prints no line at which one could look at the clock.
        limit = threading.Timer(_SECONDS, process.kill)
        limit.start()
        try:
            for line in process.stdout:
                found = _LINE.search(line)
                if not found:
                    continue
                start = start or time.monotonic() - begun
                # Epochs count from 0 there, steps from 1.
                steps.append(int(found[1]) * training.steps + int(found[2]))
                if eviction is not None and not asked and steps[-1] >= step:
                    asked = time.monotonic()
                    process.send_signal(signal.SIGKILL if eviction.hard else signal.SIGTERM)
            status = process.wait()
        finally:
            limit.cancel()
    if time.monotonic() - begun >= _SECONDS:
        raise TrainingError(
            f"expected a process that ends within {_SECONDS:g} s, found one that had to be ended: {folder}"
        )
    return status, start, time.monotonic() - asked if asked else 0.0, steps


def median_times(jobs: Sequence[RealJob]) -> Times:
    """What the others take: the median of what these took."""
    starts = [start for job in jobs for start in job.starts]
    saves = [save for job in jobs for save in job.saves]
    usual = Times()
    return Times(median(starts) if starts else usual.start, median(saves) if saves else usual.save)
