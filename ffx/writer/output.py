"""A file that appears at its path complete and durable, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import WriterError

__all__ = ["AtomicFile", "write_all"]

# Fewer than any system's IOV_MAX.
_BUFFERS_A_CALL = 512
_SUFFIX = ".ffx-tmp"


def write_all(descriptor: int, buffers: Sequence[bytes | np.ndarray], offset: int) -> None:
    """Write the buffers one after the other from `offset` on, however many calls that takes.

    Raises:
        OSError: a write failed, or wrote nothing.
    """
    views = [
        memoryview(buffer if isinstance(buffer, bytes) else buffer.data).cast("B") for buffer in buffers if len(buffer)
    ]
    while views:
        done = os.pwritev(descriptor, views[:_BUFFERS_A_CALL], offset)
        if done <= 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        offset += done
        while done:
            taken = min(done, len(views[0]))
            done -= taken
            views[0] = views[0][taken:]
            if not len(views[0]):
                views.pop(0)


def _lock(descriptor: int) -> bool:
    """Mark an open file as in use until every process that has it open is gone."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


class AtomicFile:
    """A temporary file beside `path` that `commit` puts there; without it, nothing is left.

    What a killed process left behind for the same path is removed. Errors of the file system become
    `WriterError`s.

    Attributes:
        path: the final path, symbolic links resolved.
        temporary: where the bytes are meanwhile.
        descriptor: to write to.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(os.path.realpath(path))
        self.descriptor = -1
        self.temporary: Path | None = None

    def __enter__(self) -> AtomicFile:
        if self.path.is_dir():
            raise WriterError(f"{self.path}: expected the path of a file, found a folder")
        try:
            self._remove_stale()
            temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}{_SUFFIX}")
            self.descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise WriterError(f"{self.path}: cannot write there: {error}") from error
        self.temporary = temporary
        _lock(self.descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                self.temporary.unlink()
            self.temporary = None
        if isinstance(error, OSError) and not isinstance(error, WriterError):
            raise WriterError(f"{self.path}: writing failed, nothing was left there: {error}") from error

    def _remove_stale(self) -> None:
        for old in self.path.parent.glob(f".{self._escaped_name()}.*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                descriptor = os.open(old, os.O_RDWR)
                try:
                    # Whoever writes it holds the lock; a file that nobody holds was left by a killed process.
                    if _lock(descriptor):
                        old.unlink()
                finally:
                    os.close(descriptor)

    def _escaped_name(self) -> str:
        return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in self.path.name)

    def commit(self) -> None:
        """Make the bytes durable, then let them appear at the path in one step, durably.

        What stood at the path before stands there again if the last of it fails.
        """
        assert self.temporary is not None
        os.fsync(self.descriptor)
        former = self.temporary.with_suffix(".former")
        with contextlib.suppress(OSError):  # no file there, or a file system without links
            os.link(self.path, former)
        try:
            os.replace(self.temporary, self.path)
            try:
                _sync_folder(self.path.parent)
            except OSError:
                if former.exists():
                    os.replace(former, self.path)
                else:
                    self.path.unlink()
                raise
            self.temporary = None
        finally:
            with contextlib.suppress(FileNotFoundError):
                former.unlink()


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have no such thing for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
