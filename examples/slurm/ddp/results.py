"""The lines of `main.py` that say what was trained and how long it took; `report` reads them again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reporting.scaling import hours_minutes_seconds
from trainer.config import TrainerConfig

__all__ = ["Heading", "Total", "nodes_of_step", "total_of_run"]

_HEADING = re.compile(
    r"main\.py: (\S+), (\d+) epochs, (\d+) ranks? on (\d+) nodes?, batch (\d+) \(\d+ a rank\), learning rate ([^\s,]+)"
    r"(?:, ([^,]+), ([^,]+))?"
)
_TOTAL = re.compile(r" \* Time ([\d.]+) s \([\d:]+\), (\d+) of (\d+) epochs")


@dataclass(frozen=True)
class Heading:
    """What is trained: network, epochs, ranks, machines, images a step of all ranks, rate, optimizer and its schedule.

    A line without the last two is read, too: they are empty then.
    """

    arch: str
    epochs: int
    ranks: int
    nodes: int
    batch_size: int
    rate: float
    optimizer: str = ""
    schedule: str = ""

    def __str__(self) -> str:
        course = f", {self.optimizer}, {self.schedule}" if self.optimizer else ""
        return (
            f"main.py: {self.arch}, {self.epochs} epochs, {self.ranks} rank{'s' * (self.ranks > 1)} on {self.nodes} "
            f"node{'s' * (self.nodes > 1)}, batch {self.batch_size} ({self.batch_size // self.ranks} a rank), "
            f"learning rate {self.rate:g}{course}"
        )

    @classmethod
    def of(cls, config: TrainerConfig, ranks: int) -> Heading:
        """That of a training on so many ranks."""
        training, lr = config.training, config.lr
        warmup = f" after {lr.warmup_epochs} epochs of warm-up" if lr.warmup_epochs else ""
        return cls(
            config.model.arch,
            training.epochs,
            ranks,
            nodes_of_step(),
            training.batch_size * ranks,
            lr.lr,
            training.optimizer,
            f"{lr.lr_schedule_type}{warmup}",
        )

    @classmethod
    def find(cls, line: str) -> Heading | None:
        """What a line says, if it is one of these."""
        found = _HEADING.match(line)
        if not found:
            return None
        arch, *numbers, rate, optimizer, schedule = found.groups()
        return cls(arch, *map(int, numbers), float(rate), optimizer or "", schedule or "")


@dataclass(frozen=True)
class Total:
    """Seconds of a training with its validations and without its breaks, epochs done, epochs asked for."""

    seconds: float
    epochs: int
    planned_epochs: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.epochs >= self.planned_epochs

    def __str__(self) -> str:
        return (
            f" * Time {self.seconds:.1f} s ({hours_minutes_seconds(self.seconds)}), "
            f"{self.epochs} of {self.planned_epochs} epochs"
        )

    @classmethod
    def find(cls, line: str) -> Total | None:
        """What a line says, if it is one of these."""
        found = _TOTAL.match(line)
        return cls(float(found[1]), int(found[2]), int(found[3])) if found else None


def nodes_of_step(environment: Mapping[str, str] = os.environ) -> int:
    """Machines of this SLURM step; 1 outside of one."""
    named = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_JOB_NUM_NODES") or "1"
    return int(named) if named.isdigit() else 1


def total_of_run(folder: Path) -> Total | None:
    """What a run's log says; `None` where it has no epoch yet."""
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    lines = (folder / "log").read_text(encoding="utf-8").splitlines()
    epochs = [line for line in map(json.loads, lines) if "epoch" in line]
    if not epochs:
        return None
    return Total(epochs[-1]["relative_time"], epochs[-1]["epoch"] + 1, params["training.epochs"])
