"""What an order is: for each epoch, the samples of this rank, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import LoaderError

__all__ = ["GlobalOrder", "Ordered", "TraversalOrder", "rank_and_world"]


class Ordered(Protocol):
    """What orders take from the loader that they are made with."""

    fname: str
    indices: np.ndarray
    seed: int
    distributed: bool
    memory_manager: Any


class TraversalOrder(ABC):
    """FFCV's interface: made with the loader, asked for an order each epoch.

    Args:
        loader: gives `indices` (`uint64[samples]`), `seed` and `distributed`.
    """

    def __init__(self, loader: Ordered) -> None:
        self.loader = loader
        self.indices = loader.indices
        self.seed = loader.seed
        self.distributed = loader.distributed

    @abstractmethod
    def sample_order(self, epoch: int) -> Sequence[int] | np.ndarray:
        """This rank's sample indices in an epoch, in order."""


class GlobalOrder(TraversalOrder):
    """An order over all samples, of which each rank takes every `world`-th.

    So each sample comes exactly once an epoch for any number of ranks, and the batches that all ranks
    make in one step are together what one process would make with their joint batch size.
    """

    @abstractmethod
    def global_order(self, epoch: int) -> np.ndarray:
        """All ranks' samples together."""

    def sample_order(self, epoch: int) -> np.ndarray:
        order = self.global_order(epoch)
        if not self.distributed:
            return order
        rank, world = rank_and_world()
        return order[rank::world]


def rank_and_world() -> tuple[int, int]:
    """Rank and number of ranks of torch's process group.

    Raises:
        LoaderError: when there is none.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise LoaderError(
            "distributed=True needs torch's process group: call torch.distributed.init_process_group before "
            "iterating, or pass distributed=False"
        )
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
