"""The cache's folder: how much all files in it take, and what is given up where that is too much."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import stat
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np

from ..errors import RemoteError
from .block_map import ABSENT, BlockMap
from .lease import CLAIMED, PINNED, OtherLeases
from .locking import held, held_if_free

__all__ = ["DATA", "MAP", "OPENING", "Cache"]

_log = logging.getLogger("ffx.remote")

DATA, MAP, OPENING = "data", "blocks", "opening"
# Of the folders that `cache_name` names; others are not the cache's.
_NAME = re.compile(r"-[0-9a-f]{20}$")
# Of the file system, where no limit was set.
_KEPT_FREE = 0.05
# More is given up than is needed at once, so that it is done seldom.
_SLACK = 0.02
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 1, 2


class Cache:
    """A folder of cached files, as one process sees it.

    Args:
        folder: made where it is missing.
        limit_bytes: of all files together; `None`: by what the file system has.
    """

    def __init__(self, folder: Path, limit_bytes: int | None) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._maps: dict[str, tuple[int, BlockMap]] = {}
        self._leases: dict[str, OtherLeases] = {}
        self._warned = False
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RemoteError(f"the cache of remote files cannot be made: {error}: choose another cache_dir") from error
        _check_access(folder)

    def lock(self) -> AbstractContextManager[None]:
        """What everything that is shared is changed under, for moments only."""
        return held(self.folder / "lock")

    def map_of(self, name: str) -> BlockMap | None:
        """The block map of a folder, opened once; `None` where there is none (that can be used)."""
        path = self.folder / name / MAP
        try:
            number = path.stat().st_ino
            if name not in self._maps or self._maps[name][0] != number:
                self._maps[name] = number, BlockMap(path)
        except (OSError, ValueError):
            self._maps.pop(name, None)
            return None
        return self._maps[name][1]

    def marks_of(self, name: str, blocks: int, but: set[Path]) -> np.ndarray:
        """uint8[blocks]: what all who live hold of a file, except some."""
        return self._leases_of(name).marks(blocks, but)

    def _leases_of(self, name: str) -> OtherLeases:
        if name not in self._leases:
            self._leases[name] = OtherLeases(self.folder / name)
        return self._leases[name]

    def limit(self, kept_bytes: int) -> int:
        """How much may be kept, where so much is."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        about = os.statvfs(self.folder)
        return kept_bytes + int((about.f_bavail - about.f_blocks * _KEPT_FREE) * about.f_frsize)

    def make_room(self, bytes_wanted: int) -> None:
        """Give up what was not used for longest, and nobody needs, until there is room. With the lock held."""
        maps = {
            entry.name: self.map_of(entry.name)
            for entry in os.scandir(self.folder)
            if entry.is_dir(follow_symlinks=False)
        }
        known = {name: one for name, one in maps.items() if one is not None}
        unmapped = {
            name: _bytes_on_disk(self.folder / name) for name in maps.keys() - known.keys() if _NAME.search(name)
        }
        kept = sum(one.present_bytes for one in known.values()) + sum(unmapped.values())
        limit = self.limit(kept)
        marks = {name: self.marks_of(name, len(one.blocks), set()) for name, one in known.items()}
        coming = sum(_bytes_of(one, ((marks[name] & CLAIMED) != 0) & ~one.present) for name, one in known.items())
        excess = kept + coming + bytes_wanted - limit
        if excess <= 0:
            return
        freed = sum(self._remove_unmapped(name, size) for name, size in unmapped.items())
        freed += self._give_up(known, marks, max(excess + int(limit * _SLACK) - freed, 0))
        if freed < excess and not self._warned:
            self._warned = True
            _log.warning(
                "%s: %d bytes are needed at once, more than the limit of %d: use fewer open pages, smaller batches, "
                "fewer ranks or a larger cache_bytes",
                self.folder,
                limit + excess - freed,
                limit,
            )

    def _give_up(self, maps: dict[str, BlockMap], marks: dict[str, np.ndarray], wanted: int) -> int:
        names = list(maps)
        free = [np.flatnonzero(maps[name].present & (marks[name] & (PINNED | CLAIMED) == 0)) for name in names]
        files = np.repeat(np.arange(len(names)), [len(blocks) for blocks in free])
        blocks = np.concatenate([np.empty(0, np.int64), *free]).astype(np.int64)
        times = (maps[name].blocks["used"][one] for name, one in zip(names, free, strict=True))
        used = np.concatenate([np.empty(0, np.int64), *times])
        freed, touched = 0, set()
        for place in np.argsort(used, kind="stable").tolist():
            if freed >= wanted:
                break
            name, block = names[files[place]], int(blocks[place])
            freed += self._punch(name, maps[name], block)
            touched.add(name)
        for name in touched:
            freed += self._remove_if_empty(name, maps[name])
        return freed

    def _punch(self, name: str, block_map: BlockMap, block: int) -> int:
        start, stop = (int(block_map.blocks[key][block]) for key in ("start", "stop"))
        # It must not count as being there while, or after, it is taken away.
        block_map.blocks["state"][block] = ABSENT
        file = os.open(self.folder / name / DATA, os.O_RDWR | os.O_CLOEXEC)
        try:
            _punch_hole(file, start, stop - start)
        finally:
            os.close(file)
        return stop - start

    def _remove_if_empty(self, name: str, block_map: BlockMap) -> int:
        """Remove a file of which nothing but the tables is left, and that nobody reads."""
        if block_map.present.any() or self._leases_of(name).any_living(len(block_map.blocks)):
            return 0
        with held_if_free(self.folder / name / OPENING) as free:
            if not free:
                return 0
            self._leases.pop(name).close()
            self._maps.pop(name, None)
            _remove(self.folder / name)
            return block_map.table_bytes

    def _remove_unmapped(self, name: str, size: int) -> int:
        """Remove a folder without a map that can be used, unless it is being opened, or read by a map it had."""
        with held_if_free(self.folder / name / OPENING) as free:
            # Not those of `_leases`, which are as long as a map says.
            leases = OtherLeases(self.folder / name)
            living = leases.any_living(0)
            leases.close()
            if living or not free:
                return 0
            _remove(self.folder / name)
            return size


def _remove(folder: Path) -> None:
    """Remove a copy, with its lock held; the lock's file last, after which another process may begin the next copy."""
    names = [entry.name for entry in os.scandir(folder) if entry.name != OPENING]
    with suppress(OSError):
        for name in [*names, OPENING]:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _check_access(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise RemoteError(f"{folder}: the cache of remote files cannot be written to: choose another cache_dir")
    if os.stat(folder).st_mode & stat.S_IWOTH:
        # They could change what is read from it, or have links there that lead what is written elsewhere.
        raise RemoteError(
            f"{folder}: expected a folder for the cache of remote files that not everybody can write to: choose a "
            "cache_dir of your own (a folder in this one will do)"
        )


def _bytes_on_disk(folder: Path) -> int:
    found = 0
    for path in folder.iterdir():
        # A process that opens the file renames and removes some.
        with suppress(FileNotFoundError):
            found += path.lstat().st_blocks * 512
    return found


def _bytes_of(block_map: BlockMap, chosen: np.ndarray) -> int:
    return int((block_map.blocks["stop"][chosen] - block_map.blocks["start"][chosen]).sum())


def _punch_hole(file: int, start: int, length: int) -> None:
    # Python has no name for this call.
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if function(file, _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE, start, length) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise RemoteError(
            f"the cache of remote files is full, and its file system cannot give parts of a file back ({reason}): "
            "choose a cache_dir on a local disk, or a cache_bytes that all files fit into"
        )
