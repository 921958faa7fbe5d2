"""Run a configuration in as many processes as it asks for, or in the one that a launcher started."""

from __future__ import annotations

import os
from pathlib import Path

import torch.multiprocessing

from .checkpoint import find_checkpoint
from .config import TrainerConfig
from .distributed import Ranks, choose_device, find_ranks, free_port
from .loop import Trainer
from .runlog import new_run_folder

__all__ = ["launch"]


def launch(config: TrainerConfig, config_name: str = "") -> Path:
    """Train, or with `training.eval_only` evaluate, and return the run's folder.

    Raises:
        FfxError: anything that the user can mend.
    """
    folder = _run_folder(config)
    ranks = find_ranks(config)
    world = config.dist.world_size if config.training.distributed else 1
    if ranks is None and world > 1:
        port = config.dist.port or free_port()
        # Ask for the last GPU here, where the answer is an error message and not a dead process.
        choose_device(config.training.device, Ranks(world - 1, world, world - 1))
        torch.multiprocessing.spawn(_run_spawned, (world, port, config, folder, config_name), nprocs=world)
    else:
        _run(config, ranks or Ranks(), folder, config_name)
    return folder


def _run_folder(config: TrainerConfig) -> Path:
    if config.training.resume:
        return find_checkpoint(config.training.resume).parent.absolute()
    return new_run_folder(config.logging.folder)


def _run_spawned(rank: int, world: int, port: int, config: TrainerConfig, folder: Path, config_name: str) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        # Or every process computes with as many threads as there are cores, and they wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
    _run(config, Ranks(rank, world, rank, config.dist.address, port), folder, config_name)


def _run(config: TrainerConfig, ranks: Ranks, folder: Path, config_name: str) -> None:
    with Trainer(config, ranks, folder, config_name) as trainer:
        if config.training.eval_only:
            trainer.evaluate()
        else:
            trainer.train()
