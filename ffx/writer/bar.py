"""The progress bar of everything that writes."""

from __future__ import annotations

import threading

from tqdm import tqdm

__all__ = ["Bar"]


class Bar(tqdm):
    """A progress bar without tqdm's watching thread, which would outlive it."""

    monitor_interval = 0


# tqdm's own lock is shared with forked processes: one that is killed in mid-line would hold it for ever.
Bar.set_lock(threading.RLock())
