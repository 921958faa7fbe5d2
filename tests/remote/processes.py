"""What the processes of a test run; importable, so that spawned ones find it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ffx.loader import OrderOption
from tests.loader.helpers import everything, load, random_pipelines


def epoch_bytes(address, options, seed: int = 3, pause_seconds: float = 0.0) -> tuple[bytes, int]:
    """An epoch as bytes, and how many bytes this process fetched."""
    with load(address, order=OrderOption.RANDOM, seed=seed, pipelines=random_pipelines(), remote=options) as loader:
        parts = []
        for batch in loader:
            parts.append([part.numpy().copy() for part in batch])
            time.sleep(pause_seconds)
        whole = b"".join(part.tobytes() for column in zip(*parts, strict=True) for part in column)
        return whole, loader.reader.remote.fetched.bytes


def run_epoch(address, options, folder: Path) -> None:
    """One process of several: says in files of its own that it began, and what it got.

    Not in a queue: whoever is killed while he puts something there leaves it locked.
    """
    own = folder / str(os.getpid())
    own.with_suffix(".started").touch()
    epoch, fetched = epoch_bytes(address, options)
    own.with_suffix(".part").write_bytes(fetched.to_bytes(8, "little") + epoch)
    own.with_suffix(".part").rename(own.with_suffix(".done"))


def iterate(loader, results) -> None:
    """Go on with a parent's loader."""
    results.put(b"".join(part.tobytes() for part in everything(loader)))
