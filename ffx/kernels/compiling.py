"""Compiles kernels and keeps them on disk, in a folder of ffx's own.

numba's own cache would do, but for three things. It looks at a function's file alone when it decides
whether a compiled copy is still good, not at the files of the functions inlined into it; here the
folder is named after a checksum of all sources. Of processes that start at once, two may give their
compiled copies the same name, and one may load the other's; here writing takes a lock. And its folder
can only be named for all of a program's functions together.

The folder is `$FFX_CACHE_DIR`, else `$NUMBA_CACHE_DIR`, else `$XDG_CACHE_HOME/ffx` or `~/.cache/ffx`, else (where
that cannot be written) one in the folder for temporary files that belongs to this user alone. What is in
it is run as code, as with any compiled cache: name no folder that others may write to.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import numba
from numba.core import caching, sigutils
from numba.core.ccallback import CFunc

from ..errors import FfxWarning
from .linking import Part, pack_part, unpack_part

__all__ = ["cache_folder", "compiled", "compiled_callback"]

_PACKAGE = Path(__file__).resolve().parent.parent
_DAYS_KEPT = 30
# `ffx.kernels.linking` relies on numba's own classes: it was tried with all versions from 0.61 to 0.68. With others
# functions are compiled in numba's usual way, which takes three times as long the first time.
_PARTS_FROM, _PARTS_BEFORE = (0, 61), (0, 69)
_LOCK = "lock"
_DIGEST_BYTES = 32
# What reading damaged files raises.
_DAMAGE = (
    EOFError, ValueError, TypeError, LookupError, AttributeError, ImportError, MemoryError,
    caching.pickle.UnpicklingError,
)  # fmt: skip


@functools.lru_cache(maxsize=1)
def _checksum() -> str:
    """Of all sources: a change in any file makes all compiled copies old."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _candidates() -> Iterator[Path]:
    for variable in ("FFX_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "ffx"
            return
    with contextlib.suppress(RuntimeError):  # no home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ffx"
    with contextlib.suppress(KeyError, OSError, ImportError):  # no name
        yield Path(tempfile.gettempdir()) / f"ffx-{getpass.getuser()}"


def _owned_by_others(folder: Path) -> bool:
    """Whether somebody else could put files there, or lead a link there elsewhere."""
    if not hasattr(os, "getuid"):
        return False
    return not {folder.stat().st_uid, folder.lstat().st_uid} <= {os.getuid(), 0}


def _usable(folder: Path) -> bool:
    """Whether the folder can be made and written to, and nobody else owns it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _owned_by_others(folder):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _remove_old(folder: Path, kept: Path) -> None:
    """Remove what other versions left and nobody has used for a month."""
    oldest = time.time() - 86400 * _DAYS_KEPT
    for other in folder.glob("kernels-*"):
        with contextlib.suppress(OSError):
            if other != kept and (other / _LOCK).stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Where this version's compiled kernels lie; `None` where no folder can be written (each process compiles anew)."""
    for folder in _candidates():
        if _usable(folder):
            # Parts are LLVM's code, which not every version of LLVM reads.
            version = f"{sys.implementation.cache_tag}-numba{numba.__version__}-llvmlite{llvmlite.__version__}"
            chosen = folder / f"kernels-{_checksum()}-{version}"
            with contextlib.suppress(OSError):
                is_new = not chosen.exists()
                chosen.mkdir(exist_ok=True, mode=0o700)
                if _owned_by_others(chosen):
                    continue
                (chosen / _LOCK).touch()
                if is_new:
                    _remove_old(folder, chosen)
                return chosen
    warnings.warn(
        "ffx found no folder that it may write compiled kernels to, so every process compiles them anew, which takes "
        "about half a minute: set FFX_CACHE_DIR to a folder that is yours",
        FfxWarning,
        stacklevel=2,
    )
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time, where the system has such locks (on some network folders it has none)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "ab") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing would not do: a process forked meanwhile has the file open, too, and would keep the lock.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)


class _Locator(caching._CacheLocator):
    """Tells numba where the compiled copies of ffx's functions lie."""

    def __init__(self, function: Callable, folder: Path) -> None:
        file = Path(function.__code__.co_filename).resolve()
        package = file.parent.relative_to(_PACKAGE).parts if file.is_relative_to(_PACKAGE) else ("elsewhere",)
        self._folder = folder.joinpath(*package)
        self._line = str(function.__code__.co_firstlineno)

    @classmethod
    def from_function(cls, function: Callable, file: str) -> _Locator | None:
        """For numba: a locator for a function; `None` where there is no folder."""
        folder = cache_folder()
        return None if folder is None else cls(function, folder)

    def get_cache_path(self) -> str:
        """For numba: the folder."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """For numba: what tells new sources from old."""
        return _checksum()

    def get_disambiguator(self) -> str:
        """For numba: what tells functions of one name in one file apart."""
        return self._line


class _Results(caching.CompileResultCacheImpl):
    _locator_classes: ClassVar[list] = [_Locator]


class _PartResults(_Results):
    """Parts are kept as they are linked in, in files beside those of what Python calls."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        """For numba: what the names of the function's files begin with."""
        return f"{super().get_filename_base(fullname, abiflags)}.part"

    def reduce(self, result: Any) -> tuple[Any, ...]:
        """For numba: what to write."""
        return pack_part(result)

    def rebuild(self, target_context: Any, payload: tuple[Any, ...]) -> Any:
        """For numba: the opposite."""
        return unpack_part(target_context, payload)


class _CheckedFiles(caching.IndexDataCacheFile):
    """numba's files of one function, each copy behind its checksum: damaged machine code ends the process.

    Each says itself what it is a copy of. The list of copies is written first, so where a process ends between the two,
    or where there are no locks, the list may name an older copy, or another process's.
    """

    def save(self, key: Any, data: Any) -> None:
        """For numba: keep a copy for a signature and a processor."""
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        """For numba: the opposite; `None` where there is none."""
        stored = super().load(key)
        if stored is not None and stored[0] != key:
            raise ValueError("a copy for another signature or processor")
        return None if stored is None else stored[1]

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        stored = Path(self._data_path(name)).read_bytes()
        content = stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != stored[:_DIGEST_BYTES]:
            raise ValueError(f"{name} is damaged")
        return caching.pickle.loads(content)


class _KernelCache(caching.Cache):
    """numba's cache of one function, with one process at a time writing to it."""

    _impl_class = _Results

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _CheckedFiles(locator.get_cache_path(), self._impl.filename_base, locator.get_source_stamp())

    def _save_overload(self, signature: Any, data: Any) -> None:
        folder = cache_folder()
        try:
            with _locked(folder / _LOCK):
                self._drop_damaged_index()
                super()._save_overload(signature, data)
        except OSError as error:
            # A full disk, a folder that has gone: what was compiled works all the same.
            warnings.warn(f"ffx could not keep a compiled kernel in {folder}: {error}", FfxWarning, stacklevel=2)

    def _drop_damaged_index(self) -> None:
        """A damaged list of copies could not be added to, either: begin a new one."""
        try:
            self._cache_file._load_index()
        except _DAMAGE:
            self._cache_file.flush()

    def _load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return super()._load_overload(signature, target_context)
        except (OSError, *_DAMAGE):
            # A damaged copy is compiled again and replaced.
            return None


class _PartCache(_KernelCache):
    _impl_class = _PartResults


def _cached(compiler: Any, function: Callable, cache: type[_KernelCache] = _KernelCache) -> Any:
    if cache_folder() is not None:
        # What numba's enable_caching does, with our cache.
        compiler._cache = cache(function)
    return compiler


def compiled(function: Callable) -> Any:
    """Compile a kernel when it is first called, or take its copy from disk: no GIL, IEEE division without exceptions.

    Called from Python it is machine code; compiled code that calls it takes it in (`ffx.kernels.linking`).

    No fastmath: results must not depend on how a compiler groups additions.
    """
    options = {"nogil": True, "error_model": "numpy"}
    kernel = _cached(numba.njit(**options)(function), function)
    if not _PARTS_FROM <= numba.version_info.short < _PARTS_BEFORE:
        return kernel
    # Made when it is first wanted: with all kernels on disk, hardly any is.
    part = functools.cache(lambda: _cached(Part(function, options), function, _PartCache))
    kernel.get_call_template = lambda args, kws: part().get_call_template(args, kws)
    kernel.get_overload = lambda signature: part().get_overload(signature)
    return kernel


def compiled_callback(signature: Any, function: Callable) -> Any:
    """Compile a function, or take its copy from disk, so that compiled code can call it by its `address`."""
    callback = _cached(CFunc(function, sigutils.normalize_signature(signature), locals={}, options={}), function)
    callback.compile()
    return callback
