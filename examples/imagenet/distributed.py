"""Several GPUs: which process this is, joining the others, and numbers of all of them."""

from __future__ import annotations

import checkout  # noqa: F401
import torch
from trainer.distributed import Ranks, find_ranks, from_first_rank, process_group, share_buffers, sum_over_ranks

__all__ = [
    "Ranks",
    "find_ranks",
    "from_first_rank",
    "is_main_process",
    "mean_over_ranks",
    "process_group",
    "share_buffers",
    "sum_over_ranks",
    "world_size",
]


def world_size() -> int:
    """Processes that are joined; 1 for one that is alone."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this process writes and prints."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def mean_over_ranks(value: float, device: torch.device | str = "cpu") -> float:
    """The mean of all processes' values. They call this together."""
    return sum_over_ranks(torch.tensor(value, dtype=torch.float64, device=device)).item() / world_size()
