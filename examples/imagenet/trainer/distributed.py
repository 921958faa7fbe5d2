"""Which of how many processes this is, and the few operations that they do together.

In this order: torchrun's own variables when torchrun started this process (inside a SLURM step, too), a SLURM step of
several tasks, `RANK` and `WORLD_SIZE` of another launcher, else `dist.world_size` processes that the trainer
starts by itself. NCCL connects GPUs, gloo CPUs.
"""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from .config import DistributedConfig, TrainerConfig
from .errors import ConfigurationError

__all__ = [
    "Ranks",
    "choose_device",
    "find_ranks",
    "free_port",
    "from_first_rank",
    "is_lost_contact",
    "maximum_over_ranks",
    "process_group",
    "seed_generators",
    "seed_step",
    "share_buffers",
    "sum_over_ranks",
]

# For ranks that vanish with their machine. When a process dies, the others are told at once.
_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process among all of them.

    Attributes:
        rank, world: which of how many.
        local_rank: which on this machine.
        address, port: where rank 0 listens; `None`: torchrun's store, found by the environment.
        started_here: the trainer started the processes by itself.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    address: str | None = None
    port: int = 0
    started_here: bool = True

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0


def find_ranks(config: TrainerConfig, environment: Mapping[str, str] = os.environ) -> Ranks | None:
    """This process among those that a launcher started; `None` when no launcher did.

    Raises:
        ConfigurationError: a launcher's variables are incomplete.
    """
    try:
        if "TORCHELASTIC_RUN_ID" in environment:
            return _from_environment(environment, None, 0)
        if "SLURM_STEP_ID" in environment and _slurm_tasks(environment) > 1:
            return _from_slurm(config, environment)
        if "RANK" in environment and "WORLD_SIZE" in environment:
            address = environment.get("MASTER_ADDR", config.dist.address)
            return _from_environment(environment, address, int(environment.get("MASTER_PORT", config.dist.port)))
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"the launcher's environment is incomplete or wrong: {error}") from error
    return None


def _from_environment(environment: Mapping[str, str], address: str | None, port: int) -> Ranks:
    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    return Ranks(rank, world, int(environment.get("LOCAL_RANK", rank)), address, port, started_here=False)


def _slurm_tasks(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)


def _from_slurm(config: TrainerConfig, environment: Mapping[str, str]) -> Ranks:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    address = environment.get("MASTER_ADDR") or _first_host(nodes) or config.dist.address
    return Ranks(
        rank=int(environment["SLURM_PROCID"]),
        world=_slurm_tasks(environment),
        local_rank=int(environment["SLURM_LOCALID"]),
        address=address,
        port=int(environment.get("MASTER_PORT", config.dist.port)),
        started_here=False,
    )


def _first_host(nodes: str) -> str:
    """First host of a SLURM list such as `gpu[07-09],big1`."""
    if not nodes:
        return ""
    try:
        answer = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return answer.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        # Inside a container there may be no scontrol.
        found = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
        return (found[1] + (found[2] or "")) if found else ""


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def choose_device(wanted: str, ranks: Ranks) -> torch.device:
    """The device of this process.

    Raises:
        ConfigurationError: a GPU is asked for and not there.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigurationError("training.device=cuda, but torch finds no GPU: use training.device=auto or cpu")
    count = torch.cuda.device_count()
    # A launcher may have given each process a GPU of its own, which it then sees alone.
    number = 0 if count == 1 and not ranks.started_here else ranks.local_rank
    if number >= count:
        raise ConfigurationError(
            f"process {ranks.rank} of {ranks.world} needs GPU {number}, but torch finds {count}: "
            f"use --dist.world_size={count}, or --training.distributed=0 for one GPU"
        )
    return torch.device("cuda", number)


@contextmanager
def process_group(ranks: Ranks, device: torch.device, options: DistributedConfig) -> Iterator[None]:
    """Joined to the other processes; nothing happens for a single one.

    Raises:
        ConfigurationError: NCCL is asked for without GPUs.
    """
    if ranks.world == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    by_launcher = "env://" if ranks.address is None else f"tcp://{ranks.address}:{ranks.port}"
    address, backend = options.url or by_launcher, _backend(options.backend, device)
    dist.init_process_group(backend, init_method=address, rank=ranks.rank, world_size=ranks.world, timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _backend(wanted: str, device: torch.device) -> str:
    if wanted == "nccl" and device.type != "cuda":
        raise ConfigurationError(f"dist.backend=nccl connects GPUs, and this training is on {device}: use gloo or auto")
    return wanted if wanted != "auto" else "nccl" if device.type == "cuda" else "gloo"


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """`values` summed over all ranks, in place; on the ranks' device."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def maximum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The largest of all ranks' `values`, one by one, in place; on the ranks' device."""
    if dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def from_first_rank(value: Any) -> Any:
    """The first rank's `value` (texts and numbers), on all of them."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def is_lost_contact(error: BaseException) -> bool:
    """Whether an error says that another rank is gone."""
    words = ("gloo", "nccl", "connection", "socket", "tcpstore")
    kind = getattr(dist, "DistError", ())
    return isinstance(error, RuntimeError) and (isinstance(error, kind) or any(w in str(error).lower() for w in words))


def share_buffers(model: torch.nn.Module) -> None:
    """Give all ranks the first one's buffers: each has batch statistics of its own since its last step."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def seed_generators(*key: int) -> None:
    """Seed this process's generators from `key`, for instance (seed, epoch, rank)."""
    words = np.random.SeedSequence(key).generate_state(3, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    random.seed(int(words[1]))
    np.random.seed(int(words[2]) % 2**32)


def seed_step(device: torch.device, *key: int) -> None:
    """Seed what a step of a network draws from (dropout): torch's generator, of the GPU where it is there.

    So a step draws the same whatever was drawn before it. NumPy's and Python's generators are nothing that a step uses.
    """
    word = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    # Not `torch.manual_seed`, which takes ten times as long: it looks for every kind of device.
    torch.random.default_generator.manual_seed(word)
    if device.type == "cuda":
        torch.cuda.manual_seed(word)
