"""`Trainer`: trains what a configuration of `config` says.

from config import get_default_config
from train import Trainer

run_folder = Trainer(get_default_config()).train()
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from config import TrainingConfig
from trainer.launch import launch
from trainer.signals import StopRequest

__all__ = ["Trainer"]


class Trainer:
    """A training, in as many processes as its configuration asks for.

    Args:
        config: what to do; read here, later changes change nothing.
        options: of the trainer, by dotted names, which win over the configuration.
        stop: whether somebody asked to stop (`trainer.signals.stop_on_signals`); `None`: nobody asks.

    Attributes:
        options: the trainer's configuration.

    Raises:
        ConfigurationError: settings exclude each other, or there are no data.
    """

    def __init__(
        self, config: TrainingConfig, options: dict[str, Any] | None = None, stop: StopRequest | None = None
    ) -> None:
        self.options = config.to_trainer_config(**(options or {}))
        self._stop = stop

    def train(self) -> Path:
        """Train, or with `eval_only` evaluate; returns the run's folder, in `output.checkpoint_dir`.

        Raises:
            Interrupted: it was asked to stop.
            FfxError: anything that can be mended.
        """
        return launch(self.options, f"run.py {self.options.model.arch}", self._stop)
