"""How a remote file is read and kept: what users may choose."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LoaderError

__all__ = ["RemoteOptions"]


@dataclass(frozen=True)
class RemoteOptions:
    """How a remote file is read and kept.

    Args:
        cache_dir: folder on a local disk, shared by the processes of a machine. `None`: `FFX_REMOTE_CACHE`, or else
            `~/.cache/ffx/remote`.
        cache_bytes: limit of what all files together keep there; what was not used for longest goes first. `None`: all
            but a twentieth of the file system.
        requests: how many run at once, for each epoch that is iterated.
        timeout_seconds: of a connection, and of each wait for more bytes.
        attempts: how often a request is tried, with growing pauses between; what came before it broke off is kept.
        read_ahead_bytes: how much is fetched before batches need it.
        storage_options: for the store: `headers` and `ca_certs` for `http(s)://`; `anon`, `key`, `secret`, `token`,
            `profile`, `endpoint_url`, `region_name` for `s3://`; else what the fsspec file system takes.

    Raises:
        LoaderError: a number is too small.
    """

    cache_dir: str | os.PathLike | None = None
    cache_bytes: int | None = None
    requests: int = 16
    timeout_seconds: float = 30.0
    attempts: int = 6
    read_ahead_bytes: int = 1 << 30
    # May hold credentials, which messages that print options must not show.
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("cache_bytes", 1), ("requests", 1), ("attempts", 1), ("read_ahead_bytes", 0)):
            value = getattr(self, name)
            if value is not None and (int(value) != value or value < least):
                raise LoaderError(f"remote: expected {name} as a whole number of at least {least}, found {value!r}")
        if not self.timeout_seconds > 0:
            raise LoaderError(f"remote: expected timeout_seconds above 0, found {self.timeout_seconds!r}")

    @property
    def folder(self) -> Path:
        """Where files are kept."""
        chosen = self.cache_dir or os.environ.get("FFX_REMOTE_CACHE") or "~/.cache/ffx/remote"
        return Path(chosen).expanduser().absolute()
