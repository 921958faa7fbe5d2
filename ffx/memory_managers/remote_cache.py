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
        blocks: the blocks of each, int64, ascending.
        bytes: int64[stays], of its blocks.
        most_bytes: of all that are needed at once.
    """

    first: np.ndarray
    last: np.ndarray
    blocks: list[np.ndarray]
    bytes: np.ndarray
    most_bytes: int


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
    starts = np.flatnonzero(begins)
    first = batches[starts]
    last = batches[np.r_[starts[1:], len(batches)][: len(starts)] - 1]
    by_first = np.argsort(first, kind="stable")
    parts = np.split(blocks, starts[1:]) if len(starts) else []
    stays = [np.unique(parts[number]) for number in by_first.tolist()]
    first, last = first[by_first], last[by_first]
    stay_bytes = np.array([sizes[stay].sum() for stay in stays], np.int64)
    return Stays(first, last, stays, stay_bytes, _most_bytes(first, last + in_flight, stays, sizes))


def _most_bytes(begins: np.ndarray, ends: np.ndarray, stays: Sequence[np.ndarray], sizes: np.ndarray) -> int:
    """Of all blocks that are pinned at once, when stay `i` pins its own from `begins[i]` until `ends[i]`."""
    lengths = [len(stay) for stay in stays]
    blocks = np.concatenate([np.empty(0, np.int64), *stays]).astype(np.int64)
    start, stop = np.repeat(begins, lengths), np.repeat(ends, lengths)
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
        gone = [self._stays.blocks[stay] for stay in self._by_last[self._let_go : done].tolist()]
        self._let_go = done
        for blocks in gone:
            self._fetcher.unpin(blocks)

    def _admit(self, batch: int) -> None:
        """All that batches up to this one need, and as much of the next ones' as may be read ahead."""
        stays = self._stays
        needed = int(np.searchsorted(stays.first, batch, "right"))
        ahead = int(stays.bytes[needed : self._admitted].sum())
        while self._admitted < len(stays.blocks):
            if self._admitted >= needed:
                ahead += int(stays.bytes[self._admitted])
                if ahead > self._ahead_bytes:
                    return
            self._fetcher.admit(stays.blocks[self._admitted])
            self._admitted += 1

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
