"""Ranges of whatever fsspec knows: `osdf://`, `gs://`, `sftp://`, …

fsspec gives bytes and not the version that they are of, so the version is asked for again, now and then, beside them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import fsspec
from fsspec.asyn import sync

from .options import RemoteOptions
from .store import Store, TemporaryProblem, Version

__all__ = ["FsspecStore"]

_SECONDS_BETWEEN_LOOKS = 5.0


class FsspecStore(Store):
    """A file of an fsspec file system."""

    def __init__(self, address: str, options: RemoteOptions) -> None:
        super().__init__(address, options)
        # Instances that fsspec keeps may be those of a process that this one was forked from.
        self._files, self._path = fsspec.url_to_fs(address, **{"skip_instance_cache": True, **options.storage_options})
        self._looked = 0.0

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            if self._files.async_impl:
                function = getattr(self._files, f"_{name}")
                return sync(self._files.loop, function, *arguments, timeout=self.options.timeout_seconds, **named)
            return getattr(self._files, name)(*arguments, **named)
        except (FileNotFoundError, PermissionError, NotImplementedError, ImportError) as error:
            raise self.refused(f"{type(error).__name__}: {error}") from None
        except Exception as error:  # Each file system has errors of its own.
            raise TemporaryProblem(f"{type(error).__name__}: {self.hidden(str(error))}") from None

    def version(self) -> Version:
        """See `Store`."""
        self._files.invalidate_cache()
        about = self._call("info", self._path)
        if about.get("type") == "directory" or about.get("size") is None:
            raise self.refused("expected a file of known size, found none", "is the address right?")
        etag = next((about[key] for key in ("ETag", "etag", "md5Hash", "checksum") if about.get(key)), "")
        named = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
        modified = next((about[key] for key in named if about.get(key)), "")
        self._looked = time.monotonic()
        return Version(int(about["size"]), str(etag), str(modified))

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """See `Store`."""
        data = self._call("cat_file", self._path, start=start, end=stop)
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            version.check(self.shown, self.version())
        yield data
