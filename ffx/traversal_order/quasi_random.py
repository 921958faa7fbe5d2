"""Random among few pages at a time: for files that are larger than memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ..errors import LoaderError
from .base import Legs, Ordered, Share, TraversalOrder, has_repeats, occurrences_in
from .random import epoch_generator

__all__ = ["QuasiRandom"]

DEFAULT_OPEN_PAGES = 64


class QuasiRandom(TraversalOrder):
    """Pages in random order; at every moment samples come at random from `open_pages` pages.

    The epoch's pages are shuffled, and page number p of them gives its samples at random moments between
    p and p + `open_pages`, counted in pages. So one page opens as another one ends: pages are read once
    each and at an even rate, and no more than `open_pages` of them are needed at a time. Where there are no
    more pages than that, the order is fully random.

    Distributed, the shuffled pages are cut into one run for each rank: a rank reads its own pages (the
    first and the last may be shared with a neighbour), every sample comes exactly once an epoch, and ranks
    differ by at most one sample.

    Args:
        loader: gives `indices`, `seed`, `distributed`, and `memory_manager.sample_page`
            (`int64[num_samples]`, each sample's first page, -1 for none).
        open_pages: pages that are open at a time, of each rank. More mix better, and take more memory.

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

    @property
    def description(self) -> str:
        """Its name and how many pages are open."""
        return f"{type(self).__name__}(open_pages={self.open_pages})"

    def sample_order(self, epoch: int) -> np.ndarray:
        """This rank's samples of an epoch: exactly once each over all ranks."""
        rank, world = self._rank_and_world()
        return self._runs(epoch, [_run(len(self.indices), rank, world)])[0]

    def share(self, epoch: int, legs: Legs = ()) -> Share:
        """What each rank of the last leg has left stays one run; where there are other ranks now, they cut it anew."""
        if type(self).sample_order is not QuasiRandom.sample_order:
            return super().share(epoch, legs)
        count = len(self.indices)
        rank, world = self._rank_and_world()
        if not legs and not self._has_repeats:
            return Share(self._runs(epoch, [_run(count, rank, world)])[0], None, count // world)
        began = legs[0][0] if legs else world
        runs = self._runs(epoch, [_run(count, one, began) for one in range(began)])
        order = np.concatenate(runs)
        places = _split(np.arange(len(order)), [len(run) for run in runs])
        for ranks, samples in legs:
            if ranks != len(places):
                places = _cut(np.concatenate(places), ranks)
            places = [run[samples:] for run in places]
        if len(places) != world:
            places = _cut(np.concatenate(places), world)
        occurrences = occurrences_in(order)[places[rank]] if self._has_repeats else None
        return Share(order[places[rank]], occurrences, min(len(run) for run in places))

    @functools.cached_property
    def _has_repeats(self) -> bool:
        """Whether a sample stands twice in `indices`, of which every epoch's order is a permutation."""
        return has_repeats(self.indices)

    def _runs(self, epoch: int, bounds: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Runs of the epoch's samples, from place to place in the row of its shuffled pages, each in its order."""
        generator = epoch_generator(self.seed, epoch)
        order = generator.permutation(len(self._starts) - 1)
        # Where each page's samples end when the pages stand in their new order.
        ends = np.cumsum(np.diff(self._starts)[order])
        moments = generator.random(len(self.indices))
        rows = _rows(self._starts[order], ends)
        return [self._run_in_order(rows, ends, moments, first, stop) for first, stop in bounds]

    def _run_in_order(
        self, rows: np.ndarray, ends: np.ndarray, moments: np.ndarray, first: int, stop: int
    ) -> np.ndarray:
        samples = self._by_page[rows[first:stop]]
        page = np.searchsorted(ends, np.arange(first, stop), side="right")
        if len(page) and page[-1] - page[0] >= self.open_pages:
            return samples[np.argsort(page + self.open_pages * moments[first:stop], kind="stable")]
        return samples[np.argsort(moments[first:stop], kind="stable")]


def _split(values: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])


def _cut(values: np.ndarray, world: int) -> list[np.ndarray]:
    """Runs for so many ranks."""
    bounds = [_run(len(values), rank, world) for rank in range(world)]
    return [values[first:stop] for first, stop in bounds]


def _rows(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers `starts[i], starts[i] + 1, …` of each run; run `i` ends at place `ends[i]` of the result."""
    lengths = np.diff(ends, prepend=0)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())


def _run(count: int, rank: int, world: int) -> tuple[int, int]:
    """Which of `count` places are a rank's when they are cut into runs; the first ranks get the longer ones."""
    length, longer = divmod(count, world)
    first = rank * length + min(rank, longer)
    return first, first + length + (rank < longer)
