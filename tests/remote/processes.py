"""What the processes of a test run; importable, so that spawned ones find it."""

from __future__ import annotations

import os
import time

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


def run_epoch(address, options, started, results) -> None:
    """One process of several: says that it began, and what it got."""
    started.put(os.getpid())
    results.put((os.getpid(), *epoch_bytes(address, options)))


def iterate(loader, results) -> None:
    """Go on with a parent's loader."""
    results.put(b"".join(part.tobytes() for part in everything(loader)))
