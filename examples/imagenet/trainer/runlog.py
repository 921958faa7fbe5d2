"""A run's folder: `params.json`, `log` (a JSON object a line), weights and checkpoints, and the lines on the screen.

Only the first rank has one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

import ffx

from .config import TrainerConfig
from .distributed import Ranks
from .durable import write_durably
from .entries import read_entries

__all__ = ["LOG", "PARAMS", "WEIGHTS", "RunLog", "describe_setup", "new_run_folder"]

PARAMS = "params.json"
LOG = "log"
WEIGHTS = "final_weights.pt"


def new_run_folder(parent: str) -> Path:
    """A path `<parent>/<uuid>` that no other run has."""
    return Path(parent).expanduser().absolute() / str(uuid4())


def describe_setup(device: torch.device, ranks: Ranks) -> str:
    """What a run trains on, as the table says it: `8 x NVIDIA A100-SXM4-40GB`, or `CPU (2 cores)`."""
    if device.type == "cuda":
        return f"{ranks.world} x {torch.cuda.get_device_name(device)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{f'{ranks.world} x ' if ranks.world > 1 else ''}CPU ({cores} core{'s' if cores != 1 else ''})"


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


class RunLog:
    """Writes what a run's folder says about it.

    Args:
        folder: the run's folder; its name is the run's uuid.
        seconds: training time of the run before this process, when it is resumed.
        log_folder: a folder in which a folder of the run's name holds the log and the options as well; "" for none.
    """

    def __init__(self, folder: Path, seconds: float = 0.0, log_folder: str = "") -> None:
        self.folder = folder
        self._copies = Path(log_folder).expanduser().absolute() / folder.name if log_folder else None
        folder.mkdir(parents=True, exist_ok=True)
        self._start = time.time() - seconds

    @property
    def seconds(self) -> float:
        """Training time of the run so far."""
        return time.time() - self._start

    def write_params(self, config: TrainerConfig, config_name: str, setup: str) -> None:
        """Write every option by its dotted name, and beside them what the run was made with."""
        about = {
            "config": config_name,
            "setup": setup,
            "versions": {"ffx": ffx.__version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        text = json.dumps({**config.as_params(), **about}, indent=1)
        write_durably(self.folder / PARAMS, (text + "\n").encode())
        self._copy(PARAMS)

    def write(self, **entry: Any) -> dict[str, Any]:
        """Append a line with `entry` and the time, and return it."""
        line = {"timestamp": time.time(), "relative_time": self.seconds, **entry}
        path = self.folder / LOG
        with open(path, "a", encoding="utf-8") as file:
            # A line that a crash cut short must not take this one with it.
            file.write(("" if _ends_a_line(path) else "\n") + json.dumps(line) + "\n")
        # All of it, since what a run wrote before it was gone on with may be missing there.
        self._copy(PARAMS, LOG)
        return line

    def keep_epochs_before(self, epoch: int) -> None:
        """Take out lines of epochs that will be trained again: they were logged after the checkpoint was written."""
        path = self.folder / LOG
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if any(entry.get("epoch", -1) < epoch for entry in read_entries(line))]
        if kept != lines:
            write_durably(path, "".join(kept).encode())
        self._copy(PARAMS, LOG)

    def _copy(self, *names: str) -> None:
        if self._copies is None or self._copies == self.folder:
            return
        self._copies.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, self._copies / name)
