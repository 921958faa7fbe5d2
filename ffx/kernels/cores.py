"""How many processor cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["usable_cores"]

_CGROUP = Path("/sys/fs/cgroup")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _quota_of_group() -> float:
    """Cores that the control group grants (version 2, then version 1); infinite without a limit."""
    words = _read(_CGROUP / "cpu.max").split()
    if not words:
        words = [_read(_CGROUP / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (IndexError, ValueError):
        return float("inf")
    return quota / period if quota > 0 and period > 0 else float("inf")


def usable_cores() -> int:
    """At least 1: the cores of this process's affinity mask, limited by its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_of_group()
    return max(1, cores if quota >= cores else round(quota + 0.499))
