"""Random among few pages at a time: for files that are larger than memory."""

from __future__ import annotations

import numpy as np

from ..errors import LoaderError
from .base import Ordered, TraversalOrder, rank_and_world
from .random import epoch_generator

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

    def __init__(self, loader: Ordered, open_pages: int = DEFAULT_OPEN_PAGES) -> None:
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
        # Where each page's samples end when the pages stand in their new order.
        ends = np.cumsum(np.diff(self._starts)[pages])
        samples = self._by_page[_rows(self._starts[pages], ends)]
        group_pages = self.open_pages * world
        bounds = np.r_[0, ends[group_pages - 1 : -1 : group_pages], len(samples)]
        # Parts are numbered group by group, one for each rank; in that order sorting leaves them.
        lengths = _part_lengths(bounds, world)
        part = np.repeat(np.arange(len(lengths)), lengths)
        shuffled = np.lexsort((generator.random(len(samples)), part))
        return samples[shuffled[part % world == rank]]


def _rows(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers `starts[i], starts[i] + 1, …` of each run; run `i` ends at place `ends[i]` of the result."""
    lengths = np.diff(ends, prepend=0)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())


def _part_lengths(bounds: np.ndarray, world: int) -> np.ndarray:
    """Samples of each rank's part of each group, group by group; a group goes from one of `bounds` to the next.

    A rank gets as many samples of a group as if the epoch's samples were dealt out in turn, so no rank
    gets more than one sample more than another over the epoch. A part is a run, so that it has few pages.
    """
    dealt = (bounds[:, None] - np.arange(world) + world - 1) // world
    return np.diff(dealt, axis=0).ravel()
