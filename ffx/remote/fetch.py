"""One range, whole or not at all: tries, pauses, and going on where an answer broke off."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import RemoteError
from .store import Store, TemporaryProblem, Version

__all__ = ["Fetched", "fetch_range", "try_again"]

_log = logging.getLogger("ffx.remote")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
# Slower than this an answer counts as stalled, however steadily it drips.
_LEAST_BYTES_A_SECOND = 16 << 10

Result = TypeVar("Result")


@dataclass
class Fetched:
    """What was asked for so far, by this process.

    Attributes:
        requests: for ranges, tries that failed among them.
        bytes: that came.
        retries: requests that were made again.
        damaged: blocks that came with wrong checksums.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    damaged: int = 0


def try_again(
    store: Store, what: str, attempts: int, stopped: threading.Event, function: Callable[[], Result]
) -> Result:
    """Call a function until it succeeds, with growing pauses.

    Raises:
        RemoteError: it failed for good, or `attempts` times, or reading was stopped.
    """
    problem: TemporaryProblem | None = None
    for attempt in range(attempts):
        if attempt:
            longest = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            # Ranks that failed together should not come back together.
            stopped.wait(longest * random.uniform(0.5, 1.0))
        if stopped.is_set():
            break
        try:
            return function()
        except TemporaryProblem as error:
            problem = error
            _log.info("%s: %s: try %d of %d failed: %s", store.shown, what, attempt + 1, attempts, error)
    if problem is None or stopped.is_set():
        raise RemoteError(f"{store.shown}: {what}: reading was stopped")
    raise RemoteError(
        f"{store.shown}: {what}: gave up after {attempts} tries, the last one: {problem}; is the server up? "
        "(RemoteOptions: attempts, timeout_seconds)"
    ) from problem


def fetch_range(
    store: Store, version: Version, start: int, stop: int, stopped: threading.Event, fetched: Fetched
) -> bytearray:
    """The bytes from `start` to `stop - 1`.

    Raises:
        RemoteError: they cannot be had.
    """
    data, done, tries = bytearray(stop - start), 0, 0

    def more() -> bytearray:
        nonlocal done, tries
        tries += 1
        fetched.requests += 1
        fetched.retries += tries > 1
        began, came = time.monotonic(), 0
        for piece in store.stream(start + done, stop, version):
            if len(piece) > len(data) - done:
                # Whoever sends too much may have sent anything.
                done = 0
                raise TemporaryProblem(f"expected {len(data)} bytes, found more")
            data[done : done + len(piece)] = piece
            done += len(piece)
            came += len(piece)
            fetched.bytes += len(piece)
            allowed_seconds = store.options.timeout_seconds + came / _LEAST_BYTES_A_SECOND
            if stopped.is_set() or time.monotonic() - began > allowed_seconds:
                break
        if done < len(data):
            raise TemporaryProblem(f"expected {len(data)} bytes, found {done}")
        return data

    return try_again(store, f"bytes {start}-{stop - 1}", store.options.attempts, stopped, more)
