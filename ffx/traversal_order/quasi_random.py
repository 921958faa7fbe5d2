"""Random among few pages at a time: for files that are larger than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import LoaderError
from .base import TraversalOrder, rank_and_world
from .random import epoch_generator

if TYPE_CHECKING:
    from ..loader import Loader

__all__ = ["QuasiRandom"]

DEFAULT_OPEN_PAGES = 64


class QuasiRandom(TraversalOrder):
    """Pages in random order; samples at random among `open_pages` pages at a time.

    The pages of an epoch are shuffled and cut into groups; each group's samples are shuffled together.
    So a group's pages are read once, and about two groups of them are in memory at any moment.
    Distributed, each group is cut into as many parts as there are ranks: a rank reads few pages, every
    sample comes exactly once an epoch, and ranks differ by at most one sample.

    Args:
        loader: gives `indices`, `seed`, `distributed`, and `memory_manager.sample_page`
            (`int64[num_samples]`, each sample's first page, -1 for none).
        open_pages: pages a group and rank. More mix better, and take more memory.

    Raises:
        LoaderError: when the file has no pages (scalars only).
    """

    def __init__(self, loader: Loader, open_pages: int = DEFAULT_OPEN_PAGES) -> None:
        super().__init__(loader)
        if open_pages < 1:
            raise LoaderError(f"QUASI_RANDOM: expected open_pages of at least 1, found {open_pages}")
        self.open_pages = int(open_pages)
        pages = loader.memory_manager.sample_page[self.indices.astype(np.int64)]
        if len(pages) and pages.max() < 0:
            raise LoaderError(
                f"{loader.fname}: this file keeps no data in pages (scalars only), so QUASI_RANDOM has nothing to "
                "order by: use OrderOption.RANDOM"
            )
        # Samples by page: those of the p-th page that is used are by_page[starts[p]:starts[p + 1]].
        self._by_page = self.indices[np.argsort(pages, kind="stable")]
        self._starts = np.r_[0, np.cumsum(np.unique(pages, return_counts=True)[1])]

    def sample_order(self, epoch: int) -> np.ndarray:
        """This rank's samples of an epoch: exactly once each over all ranks."""
        rank, world = rank_and_world() if self.distributed else (0, 1)
        generator = epoch_generator(self.seed, epoch)
        pages = generator.permutation(len(self._starts) - 1)
        # All pages in their new order, each page's samples shuffled, as one array.
        lengths = np.diff(self._starts)[pages]
        ends = np.cumsum(lengths)
        within = np.arange(len(self._by_page)) - np.repeat(ends - lengths, lengths)
        samples = self._by_page[np.repeat(self._starts[pages], lengths) + within]
        group = self.open_pages * world
        bounds = np.r_[0, ends[group - 1 : -1 : group], len(samples)] if len(samples) else np.zeros(1, np.int64)
        # Sorting by (group, rank's part, random number) shuffles every part at once.
        group_of = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        part_of = np.arange(len(samples)) * world // max(len(samples), 1) if world > 1 else np.zeros(1, np.int64)
        if world > 1:
            part_of = self._parts(bounds, world)
        shuffled = np.lexsort((generator.random(len(samples)), np.broadcast_to(part_of, len(samples)), group_of))
        samples = samples[shuffled]
        if world == 1:
            return samples
        return samples[part_of[shuffled] == rank]

    @staticmethod
    def _parts(bounds: np.ndarray, world: int) -> np.ndarray:
        """Which rank reads each sample: contiguous runs of each group, so that a run has few pages.

        The first of the longer runs moves on from group to group: no rank gets more than one sample
        more than another over the epoch.
        """
        parts = np.empty(bounds[-1], dtype=np.int64)
        for start, stop in zip(bounds[:-1], bounds[1:]):
            # Sample number s of the epoch may go to rank r only so often: cumulative shares are exact.
            counts = np.array([_share(stop, rank, world) - _share(start, rank, world) for rank in range(world)])
            parts[start:stop] = np.repeat(np.arange(world), counts)
        return parts


def _share(count: int, rank: int, world: int) -> int:
    """Of `count` samples dealt out in turn, how many rank `rank` has."""
    return (count - rank + world - 1) // world
