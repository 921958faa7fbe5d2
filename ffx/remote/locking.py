"""Locks between the processes of a machine: held by open files, so the system lets go of those of the dead."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["held", "held_if_free", "is_held"]

# A file's lock belongs to the process's threads in turn; a forked process makes its own.
_threads: dict[tuple[int, str], threading.RLock] = {}
_depths: dict[tuple[int, str], int] = {}


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a file, against the other threads and processes; a thread may hold it twice.

    The file is made where it is missing; whoever removes it has to hold its lock.
    """
    key = (os.getpid(), str(path))
    with _threads.setdefault(key, threading.RLock()):
        if _depths.get(key, 0):
            yield
            return
        file = _locked(path)
        try:
            _depths[key] = 1
            yield
        finally:
            _depths[key] = 0
            # Closing would not do where a process was forked in the meantime, which has the same open file.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _locked(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # The folder was removed in between.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.sameopenfile(file, again := os.open(path, os.O_RDWR | os.O_CLOEXEC)):
                os.close(again)
                return file
            os.close(again)
        except FileNotFoundError:
            pass
        # Another file stands there now: this one was removed while its lock was waited for.
        os.close(file)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a file (made where it is missing), unless somebody holds it; gives whether it is held now."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def is_held(file: int) -> bool:
    """Whether another open file holds the lock that is this one's, too."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
