"""A remote file's cached copy: fetched ahead of the batches that need it, mapped like any file.

The blocks that each batch needs are known before the epoch begins. Uses of one page that follow each other soon make a
*stay*: all its blocks are fetched together before the first of them, and pinned until the batches that read them are
done. So a page that an order keeps open is fetched once, by few requests, and a page that a random order touches now
and then costs the blocks of its samples alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LoaderError, RemoteError
from ..remote import RemoteFile
from ..remote.fetcher import Fetcher
from .os_cache import OSCacheContext, OSCacheManager

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["RemoteCacheManager", "Stays", "plan_stays"]

# Uses of a page that are no more than so many pages' samples apart belong to one stay: QUASI_RANDOM keeps 64 open.
_PAGES_BETWEEN_USES = 16


_log = logging.getLogger("ffx.remote")


@dataclass(frozen=True)
class Stays:
    """When which blocks are needed.

    Attributes:
        first, last: int64[stays], the batches between which one is needed; `first` ascends.
        starts: int64[stays + 1]: those of stay `i` are `blocks[starts[i]:starts[i + 1]]`, ascending.
        blocks: int64, the blocks of all stays.
        bytes_before: int64[stays + 1], of all stays before one.
        most_bytes: of all that are needed at once.
    """

    first: np.ndarray
    last: np.ndarray
    starts: np.ndarray
    blocks: np.ndarray
    bytes_before: np.ndarray
    most_bytes: int

    def of(self, first: int, stop: int) -> np.ndarray:
        """The blocks of stays `first … stop - 1`, one stay after the other."""
        return self.blocks[self.starts[first] : self.starts[stop]]


def plan_stays(
    blocks_of_batches: Sequence[np.ndarray], pages: np.ndarray, sizes: np.ndarray, in_flight: int, most_gap: int
) -> Stays:
    """Plan an epoch.

    Args:
        blocks_of_batches: what each batch needs, int64, each block once.
        pages, sizes: int64[blocks].
        in_flight: batches that are under way at once: batch `b` is done when `b + in_flight` begins.
        most_gap: uses of a page that are more batches apart are two stays.
    """
    batches = np.repeat(np.arange(len(blocks_of_batches)), [len(blocks) for blocks in blocks_of_batches])
    blocks = np.concatenate([np.empty(0, np.int64), *blocks_of_batches]).astype(np.int64)
    order = np.lexsort((batches, pages[blocks]))
    batches, blocks = batches[order], blocks[order]
    begins = np.ones(len(blocks), bool)
    begins[1:] = (np.diff(pages[blocks]) != 0) | (np.diff(batches) > most_gap)
    heads = np.flatnonzero(begins)
    first = batches[heads]
    last = batches[np.r_[heads[1:], len(batches)][: len(heads)] - 1]
    by_first = np.argsort(first, kind="stable")
    new_number = np.empty(len(heads), np.int64)
    new_number[by_first] = np.arange(len(heads))
    stay_of = new_number[np.cumsum(begins) - 1]
    # Each block once a stay, stay by stay.
    order = np.lexsort((blocks, stay_of))
    stay_of, blocks = stay_of[order], blocks[order]
    is_new = np.ones(len(blocks), bool)
    is_new[1:] = (np.diff(stay_of) != 0) | (np.diff(blocks) != 0)
    stay_of, blocks = stay_of[is_new], blocks[is_new]
    starts = np.searchsorted(stay_of, np.arange(len(heads) + 1))
    first, last = first[by_first], last[by_first]
    bytes_before = np.r_[0, np.cumsum(sizes[blocks])][starts]
    most = _most_bytes(first[stay_of], last[stay_of] + in_flight, blocks, sizes)
    return Stays(first, last, starts, blocks, bytes_before, most)


def _most_bytes(start: np.ndarray, stop: np.ndarray, blocks: np.ndarray, sizes: np.ndarray) -> int:
    """Of all blocks that are pinned at once, when `blocks[i]` is pinned from batch `start[i]` until `stop[i]`."""
    order = np.lexsort((start, blocks))
    blocks, start, stop = blocks[order], start[order], stop[order]
    # A page's stays follow each other, but one may begin before the batches of the one before are done.
    again = np.flatnonzero(blocks[1:] == blocks[:-1]) + 1
    start[again] = np.maximum(start[again], stop[again - 1])
    change = np.zeros(int(stop.max(initial=0)) + 1, np.int64)
    np.add.at(change, start, sizes[blocks])
    np.subtract.at(change, stop, sizes[blocks])
    return int(np.cumsum(change).max(initial=0))


class RemoteContext(OSCacheContext):
    """An epoch over the copy: what the batches need is admitted, waited for, and let go, in their order."""

    def __init__(self, manager: RemoteCacheManager, batches: Sequence[np.ndarray], in_flight: int) -> None:
        super().__init__(manager)
        self._blocks = manager.file.blocks
        self._needed = [self._blocks.of_samples(batch) for batch in batches]
        self._in_flight = in_flight
        self._stays = manager.plan(self._needed, max([1, *map(len, batches[:1])]), in_flight)
        self._ahead_bytes = manager.ahead_bytes(self._stays)
        self._admitted = 0
        self._by_last = np.argsort(self._stays.last, kind="stable")
        self._let_go = 0
        self._fetcher = Fetcher(manager.file, manager.on_damage)

    def start_batch(self, batch: int) -> None:
        """Let go of what is done with, ask for what comes, and wait for this batch's blocks.

        Raises:
            LoaderError: they cannot be had; the cause says why.
        """
        super().start_batch(batch)
        try:
            self._let_go_of_done(batch)
            self._admit(batch)
            self._fetcher.wait(self._needed[batch])
        except RemoteError as error:
            raise LoaderError(str(error)) from error

    def _let_go_of_done(self, batch: int) -> None:
        done = int(np.searchsorted(self._stays.last[self._by_last], batch - self._in_flight, "right"))
        gone = [self._stays.of(stay, stay + 1) for stay in self._by_last[self._let_go : done].tolist()]
        self._let_go = done
        if gone:
            self._fetcher.unpin(np.concatenate(gone))

    def _admit(self, batch: int) -> None:
        """All that batches up to this one need, and as much of the next ones' as may be read ahead."""
        before = self._stays.bytes_before
        needed = int(np.searchsorted(self._stays.first, batch, "right"))
        ahead = int(np.searchsorted(before, before[needed] + self._ahead_bytes, "right")) - 1
        stop = max(needed, ahead)
        if stop > self._admitted:
            self._fetcher.admit(self._stays.of(self._admitted, stop))
            self._admitted = stop

    def bring(self, sample_ids: np.ndarray) -> None:
        """Fetch what is missing of samples that stand in for others."""
        try:
            self._fetcher.bring(self._blocks.of_samples(sample_ids))
        except RemoteError as error:
            raise LoaderError(str(error)) from error

    def renew(self, sample_ids: np.ndarray) -> bool:
        """Fetch samples again that were damaged in the copy; not those that come damaged from the store."""
        try:
            return self._fetcher.renew(self._blocks.of_samples(sample_ids))
        except RemoteError as error:
            raise LoaderError(str(error)) from error

    def close(self) -> None:
        """Stop fetching; what is under way is given a moment."""
        self._fetcher.close()

    def release(self) -> None:
        """Let go of everything."""
        self._fetcher.release()


class RemoteCacheManager(OSCacheManager):
    """Maps the copy, and fetches into it what batches will need.

    Attributes:
        file: the remote file.
        on_damage: told which samples were fetched with wrong checksums, twice.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        assert reader.remote is not None
        self.file: RemoteFile = reader.remote
        self.on_damage: Callable[[np.ndarray], object] | None = None

    def schedule_epoch(self, batches: Sequence[np.ndarray], in_flight: int = 1) -> RemoteContext:
        """Plan the epoch's fetches; the first batch starts them.

        Raises:
            LoaderError: another version of the file stands at the address, or the cache is too small for this order.
        """
        try:
            self.file.check_version()
        except RemoteError as error:
            if error.changed:
                raise LoaderError(str(error)) from error
            # What is in the cache can be read without; fetching what is not will say it again.
            _log.warning("%s: going on with what is in the cache", error)
        return RemoteContext(self, batches, in_flight)

    def plan(self, needed: Sequence[np.ndarray], batch_size: int, in_flight: int) -> Stays:
        """The stays of an epoch; shorter ones where the cache is too small for long ones.

        Raises:
            LoaderError: it is too small for those, too.
        """
        blocks, limit = self.file.blocks, self.file.options.cache_bytes
        samples = max(int(self.reader.num_samples) / max(len(np.unique(blocks.pages)), 1), 1.0)
        gap = max(in_flight, int(_PAGES_BETWEEN_USES * samples / batch_size))
        stays = plan_stays(needed, blocks.pages, blocks.sizes, in_flight, gap)
        room = None if limit is None else limit - self.file.block_map.table_bytes
        if room is not None and stays.most_bytes > room // 2:
            stays = plan_stays(needed, blocks.pages, blocks.sizes, in_flight, 1)
        if room is not None and stays.most_bytes > room:
            least = stays.most_bytes + self.file.block_map.table_bytes
            raise LoaderError(
                f"{self.file.address}: expected cache_bytes of at least {least:,} for the batches that are under way "
                f"at once, found {limit:,}: use a larger cache, OrderOption.QUASI_RANDOM (with fewer open_pages), "
                "smaller batches or fewer batches_ahead"
            )
        return stays

    def ahead_bytes(self, stays: Stays) -> int:
        """How much may be fetched before batches need it: what fits beside what they need at once."""
        limit = self.file.options.cache_bytes
        wanted = self.file.options.read_ahead_bytes
        if limit is None:
            return wanted
        return min(wanted, max(limit - self.file.block_map.table_bytes - stays.most_bytes, 0) // 2)
