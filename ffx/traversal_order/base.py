"""What an order is: for each epoch, the samples of this rank, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import LoaderError

__all__ = [
    "GlobalOrder",
    "Legs",
    "Ordered",
    "Share",
    "TraversalOrder",
    "has_repeats",
    "occurrences_in",
    "rank_and_world",
]

# What of an epoch is done: `(ranks, samples that each of them took)`, one entry for each time that the epoch was begun
# or gone on with.
Legs = Sequence[tuple[int, int]]


class Ordered(Protocol):
    """What orders take from the loader that they are made with."""

    fname: str
    indices: np.ndarray
    seed: int
    distributed: bool
    memory_manager: Any


@dataclass(frozen=True)
class Share:
    """What a rank takes of an epoch, or of what is left of it.

    Attributes:
        order: `uint64[n]`, the samples' indices in the file.
        occurrences: `uint32[n]`, how often each came before in the whole epoch; `None`: never.
        smallest: samples that the rank with the fewest takes.
    """

    order: np.ndarray
    occurrences: np.ndarray | None
    smallest: int


def occurrences_in(order: np.ndarray) -> np.ndarray:
    """How often each value stands further ahead, `uint32`."""
    by_sample = np.argsort(order, kind="stable")
    ordered = order[by_sample]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    result = np.empty(len(order), dtype=np.uint32)
    result[by_sample] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return result


def has_repeats(order: np.ndarray) -> bool:
    """Whether a value stands in it twice."""
    ordered = np.sort(order)
    return bool((ordered[1:] == ordered[:-1]).any())


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

    @property
    def description(self) -> str:
        """What must be the same where an epoch is gone on with, in words."""
        return type(self).__name__

    def share(self, epoch: int, legs: Legs = ()) -> Share:
        """What this rank takes of an epoch of which some is done.

        Raises:
            LoaderError: the order of another number of ranks is not known.
        """
        order = np.asarray(self.sample_order(epoch))
        world = self._rank_and_world()[1]
        if any(ranks != world for ranks, _ in legs):
            raise LoaderError(
                f"{type(self).__name__} says only what this rank takes, so an epoch that {legs[0][0]} ranks began can "
                f"only be gone on with by as many, found {world}: go on with as many, or at an epoch's end"
            )
        # An order of somebody else's may repeat what stands once in `indices`.
        repeats = has_repeats(order)
        done = sum(samples for _, samples in legs)
        whole = len(self.indices) // world if world > 1 else len(order)
        occurrences = occurrences_in(order)[done:] if repeats else None
        return Share(order[done:], occurrences, max(min(whole, len(order)) - done, 0))

    def _rank_and_world(self) -> tuple[int, int]:
        return rank_and_world() if self.distributed else (0, 1)


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

    def share(self, epoch: int, legs: Legs = ()) -> Share:
        """Whoever took part so far took the beginning of the joint order; the ranks of now share the rest."""
        if type(self).sample_order is not GlobalOrder.sample_order:
            return super().share(epoch, legs)
        order = np.asarray(self.global_order(epoch))
        rank, world = self._rank_and_world()
        done = min(sum(ranks * samples for ranks, samples in legs), len(order))
        occurrences = occurrences_in(order)[done:][rank::world] if has_repeats(order) else None
        return Share(order[done:][rank::world], occurrences, (len(order) - done) // world)


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
