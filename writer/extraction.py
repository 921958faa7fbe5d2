"""Unpack ILSVRC2012's archives into class folders, by several threads, so that a rerun goes on where one ended.

Each file is written under another name and renamed when it is whole. A split's folder appears under its own name when
everything is in it and on the disk; until then it is `.train.part`, where a rerun finds what is there already. It
judges files by their size, or, if the system was started anew in between (the power failed, say), by their bytes.

Threads and not processes: nearly all of the time is the system's, which other threads do not wait for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ffx.errors import ArchiveError, FfxError
from ffx.writer import TarArchive, TarMember

__all__ = ["DamagedArchiveError", "ExtractionError", "Task", "train_tasks", "unpack", "val_tasks"]

_VAL_FILES_A_TASK = 250
_SECONDS_BETWEEN_LOOKS = 0.2
_PART = re.compile(r"\.[0-9]+\.part")
# Beside its bytes a file takes what its last block has to spare.
_ROOM = 1.03
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# What a name in a class's archive can cause; other classes are none the worse for it.
_OF_A_NAME = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL}


class ExtractionError(FfxError, RuntimeError):
    """Something was not unpacked; says what, line by line."""


class DamagedArchiveError(ExtractionError):
    """All that is whole in an archive was unpacked."""


@dataclass(frozen=True)
class Task:
    """What a thread takes at a time: a class's archive, or some files.

    Attributes:
        name: for messages.
        folder: where the files go, relative to the split's folder.
        inner: the class's archive.
        files: the files and their folders, where there is none.
        size: bytes of it in the archive.
    """

    name: str
    size: int
    folder: str = ""
    inner: TarMember | None = None
    files: tuple[tuple[TarMember, str], ...] = ()


def train_tasks(archive: TarArchive) -> list[Task]:
    """One task for each class.

    Raises:
        ArchiveError: it is not an archive of one tar archive a class.
    """
    tasks = []
    for member in archive.members():
        if member.is_folder or "/" in member.name or not member.name.endswith(".tar"):
            raise ArchiveError(f"{archive.path}: expected one tar archive for each class, found {member.name}")
        if member.name[:-4] in ("", ".", ".."):
            raise ArchiveError(f"{archive.path}: expected archives named after their classes, found {member.name}")
        tasks.append(Task(member.name, member.size, member.name[:-4], member))
    if not tasks:
        raise ArchiveError(f"{archive.path}: expected one tar archive for each class, found an empty archive")
    return tasks


def val_tasks(archive: TarArchive, classes: Mapping[str, str]) -> list[Task]:
    """Some files a task, each to its class's folder.

    Raises:
        ArchiveError: a file has no class, or a picture that has one is not there.
    """
    files = [member for member in archive.members() if not member.is_folder]
    for member in files:
        if member.name not in classes:
            raise ArchiveError(f"{archive.path}: expected a class for each picture, found none for {member.name}")
    left = classes.keys() - {member.name for member in files}
    if left:
        raise ArchiveError(
            f"{archive.path}: expected the {len(classes)} pictures that have a class; {len(left)} are not there, "
            f"{min(left)} the first"
        )
    tasks = []
    for first in range(0, len(files), _VAL_FILES_A_TASK):
        own = files[first : first + _VAL_FILES_A_TASK]
        placed = tuple((member, classes[member.name]) for member in own)
        tasks.append(Task(own[0].name, sum(member.size for member in own), files=placed))
    return tasks


@dataclass
class _Work:
    """One split while it is unpacked."""

    archive: TarArchive
    folder: Path
    # Whether bytes are compared of what is there in its full size.
    compare: bool = False
    # Whether each file is on the disk before it has its name: a folder that says that all is there must not lie.
    flush: bool = False
    end: threading.Event = field(default_factory=threading.Event)
    # Counted by each thread for itself: [bytes, files, files that were there].
    counts: dict[int, list[int]] = field(default_factory=dict)

    def run(self, task: Task) -> None:
        """Unpack a task's files, unless they are there."""
        if self.end.is_set():
            return
        own = self.counts.setdefault(threading.get_ident(), [0, 0, 0])
        left = task.size
        for member, folder in self._files(task):
            if self.end.is_set():
                return
            was_there = self._write(member, self.folder / folder / member.name)
            own[0] += member.size
            own[1] += 1
            own[2] += was_there
            left -= member.size
        # A class's archive has headers, too.
        own[0] += left

    def _files(self, task: Task) -> Iterator[tuple[TarMember, str]]:
        if task.inner is None:
            yield from task.files
            return
        (self.folder / task.folder).mkdir(exist_ok=True)
        for member in self.archive.members(task.inner):
            if _PART.fullmatch(member.name.rpartition("/")[2]):
                where = f"{self.archive.path}: {task.name}"
                raise ArchiveError(f"{where}: expected names other than those of unfinished files, found {member.name}")
            if not member.is_folder:
                yield member, task.folder

    def _write(self, member: TarMember, path: Path) -> bool:
        """Write a file if there is none of its size (and bytes); whether there was one."""
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size == member.size:
                if not self.compare or path.read_bytes() == self.archive.read(member.start, member.size):
                    return True
        except FileNotFoundError:
            if "/" in member.name:
                path.parent.mkdir(parents=True, exist_ok=True)
        data = self.archive.read(member.start, member.size)
        # Its place in the archive: a name of its own, which is never too long, and found again by a rerun.
        part = path.with_name(f".{member.start}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if self.flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
        return False

    def total(self, which: int) -> int:
        """The sum over all threads."""
        return sum(own[which] for own in list(self.counts.values()))


def _boot() -> str:
    """What this start of the system is called; empty where it has no name."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _begin(part: Path, stamp: Path) -> bool:
    """Make the folder, or find it; whether what is in it may have suffered, since the system was started anew."""
    try:
        part.mkdir()
    except FileExistsError:
        # The first run's stamp stays: what this run does not come to has to be compared by the next.
        return not (stamp.is_file() and stamp.read_text() == _boot() != "")
    stamp.write_text(_boot())
    return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run, which would write to the same unfinished files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Some network disks cannot lock a folder.
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise ExtractionError(f"{folder}: another run unpacks to it: wait for its end, or end it") from None
        yield
    finally:
        os.close(descriptor)


def _bytes_below(folder: Path) -> int:
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


def _check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if needed * _ROOM > free and needed * _ROOM > free + _bytes_below(folder):
        raise ExtractionError(
            f"{folder.parent}: expected room for {needed * _ROOM / 1e9:.1f} GB, found {free / 1e9:.1f} GB free"
        )


def unpack(split: str, archive: TarArchive, tasks: list[Task], output: Path, threads: int) -> tuple[int, int]:
    """Unpack an archive into `output/split`, with a bar.

    Args:
        split: name of the folder.
        archive: where the files lie.
        tasks: of `train_tasks` or `val_tasks`.
        output: folder of the folder; made if it is not there.
        threads: so many at once.

    Returns:
        files in the folder, and how many of them were there before.

    Raises:
        DamagedArchiveError: some of it could not be unpacked. Everything else was.
        ExtractionError: there is no room, or another run unpacks to the folder, or the disk failed.
        OSError: the folder cannot be made.
    """
    whole, part = output / split, output / f".{split}.part"
    output.mkdir(parents=True, exist_ok=True)
    stamp = output / f".{split}.boot"
    folder, compare = (whole, False) if whole.exists() else (part, _begin(part, stamp))
    with _alone(folder):
        counts = _fill(_Work(archive, folder, compare, flush=folder == whole), split, tasks, threads)
        if folder == part:
            # The name `whole` says that all of it is there, also after a power cut, and whichever run wrote it.
            os.sync()
            part.rename(whole)
        stamp.unlink(missing_ok=True)
    return counts


def _fill(work: _Work, split: str, tasks: list[Task], threads: int) -> tuple[int, int]:
    """Write what is missing; see `unpack`."""
    folder = work.folder
    size = sum(task.size for task in tasks)
    _check_room(folder, size)
    for name in sorted({name for task in tasks for _, name in task.files}):
        (folder / name).mkdir(exist_ok=True)
    problems = _run_all(work, tasks, threads, split, size)
    if problems:
        shown = problems[:20] + [f"and {len(problems) - 20} more"] * (len(problems) > 20)
        kind = ExtractionError if work.end.is_set() else DamagedArchiveError
        raise kind("\n".join([*shown, f"what could be unpacked is in {folder}; a rerun goes on from there"]))
    return work.total(1), work.total(2)


def _run_all(work: _Work, tasks: list[Task], threads: int, title: str, size: int) -> list[str]:
    """Run every task; what went wrong, in words."""
    problems = []
    with ThreadPoolExecutor(threads) as pool, _bar(size, title) as bar:
        tasks_by_future = {pool.submit(work.run, task): task for task in tasks}
        try:
            for future in _as_completed(tasks_by_future, work, bar):
                error = future.exception()
                if error is None:
                    continue
                problems.append(_in_words(work.archive, tasks_by_future[future], error))
                # A damaged class leaves the others whole; a disk that is full, or a fault of ours, does not.
                if not isinstance(error, ArchiveError) and getattr(error, "errno", None) not in _OF_A_NAME:
                    work.end.set()
        except BaseException:
            work.end.set()
            raise
        bar.update(work.total(0) - bar.n)
    return problems


def _as_completed(futures: Iterable[Future], work: _Work, bar: Any) -> Iterator[Future]:
    left = set(futures)
    while left:
        done, left = wait(left, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
        yield from done
        bar.update(work.total(0) - bar.n)


def _in_words(archive: TarArchive, task: Task, error: BaseException) -> str:
    if isinstance(error, ArchiveError):
        return str(error)
    return f"{archive.path}: {task.name}: {type(error).__name__}: {error}"


class _Bar(tqdm):
    """A progress bar without tqdm's watching thread, which would outlive it."""

    monitor_interval = 0


def _bar(total: int, title: str) -> Any:
    return _Bar(total=total, desc=title, unit="B", unit_scale=True, dynamic_ncols=True)
