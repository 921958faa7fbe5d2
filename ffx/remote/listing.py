"""Which files there are, where a store tells: for programs that look for a data set."""

from __future__ import annotations

import threading

from .fetch import try_again
from .opening import open_store
from .options import RemoteOptions

__all__ = ["list_files"]


def list_files(address: str, options: RemoteOptions | None = None) -> list[str]:
    """The addresses of the files whose addresses begin with `address`, up to their next `/`, in order.

    Raises:
        RemoteError: the store cannot be reached, has no such bucket, or does not let itself be asked; or what reads
            such addresses is not installed.
    """
    chosen = options or RemoteOptions()
    store = open_store(address, chosen)
    return sorted(try_again(store, "the files there", chosen.attempts, threading.Event(), store.names))
