"""Run a configuration in as many processes as it asks for, or in the one that a launcher started."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ffx.errors import FfxError

from .checkpoint import find_checkpoint
from .config import TrainerConfig
from .distributed import Ranks, choose_device, find_ranks, free_port, is_lost_contact
from .errors import ConfigurationError, Interrupted, TrainingError
from .loop import Trainer
from .processes import run_processes
from .resuming import choose_run, folder_of_run
from .runlog import new_run_folder
from .signals import StopRequest, name_of, status_of

__all__ = ["launch"]


def launch(config: TrainerConfig, config_name: str = "", stop: StopRequest | None = None) -> Path:
    """Train, or with `training.eval_only` evaluate, and return the run's folder.

    Args:
        config: what to do.
        config_name: its name in reports.
        stop: whether the training was asked to stop (`stop_on_signals`); `None`: nobody asks.

    Raises:
        ConfigurationError: a network is to be evaluated that has learnt nothing.
        Interrupted: it was.
        FfxError: anything that the user can mend.
    """
    stop = stop or StopRequest()
    ranks = find_ranks(config)
    _demand_weights(config)
    world = config.dist.world_size if config.training.distributed else 1
    if ranks is not None or world == 1:
        return _run(config, ranks or Ranks(), None, config_name, stop)
    # All processes need the same answer.
    config = choose_run(config)
    folder = _run_folder(config)
    port = config.dist.port or free_port()
    # Ask for the last GPU here, where the answer is an error message and not a dead process.
    choose_device(config.training.device, Ranks(world - 1, world, world - 1))
    run_processes(_run_started, world, (world, port, config, folder, config_name), stop)
    return folder


def _demand_weights(config: TrainerConfig) -> None:
    """Raise where a network would be evaluated that has learnt nothing."""
    model = config.model
    if config.training.eval_only and not (model.weights or model.pretrained or choose_run(config).training.resume):
        is_auto = bool(config.training.resume)
        found = f"training.resume=auto finds no run in {config.logging.folder}" if is_auto else "none are given"
        raise ConfigurationError(
            f"training.eval_only=1 needs weights to evaluate, and {found}: say model.weights=FILE, training.resume=RUN "
            "or model.pretrained=1"
        )


def _run_folder(config: TrainerConfig) -> Path:
    if config.training.resume:
        return folder_of_run(config, find_checkpoint(config.training.resume).absolute())
    return new_run_folder(config.logging.folder)


def _run_started(
    rank: int, stop: StopRequest, world: int, port: int, config: TrainerConfig, folder: Path, config_name: str
) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        # Or every process computes with as many threads as there are cores, and they wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
    _run(config, Ranks(rank, world, rank, config.dist.address, port), folder, config_name, stop)


def _run(config: TrainerConfig, ranks: Ranks, folder: Path | None, config_name: str, stop: StopRequest) -> Path:
    try:
        with Trainer(config, ranks, folder, config_name, stop) as trainer:
            if config.training.eval_only:
                trainer.evaluate()
            else:
                trainer.train()
            return trainer.run_folder
    except RuntimeError as error:
        if isinstance(error, FfxError) or ranks.world == 1 or not is_lost_contact(error):
            raise
        if stop.number:
            text = f"{name_of(stop.number)}: stopped without a new checkpoint, since another rank has ended already"
            raise Interrupted(text, status_of(stop.number)) from error
        raise TrainingError(
            f"rank {ranks.rank} lost contact with another rank, which ended or cannot be reached: {error}"
        ) from error
