"""What every published figure carries: machine, versions, commit, command; and its median with an interval."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "ROOT",
    "append_row",
    "describe_commit",
    "describe_machine",
    "describe_run",
    "median_with_interval",
    "package_version",
    "read_rows",
]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "ffx",
    "ffcv",
    "torch",
    "torchvision",
    "numba",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "turbojpeg",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "spdl",
)


def median_with_interval(values: Sequence[float], confidence: float = 0.95, draws: int = 10_000) -> dict[str, float]:
    """Return the median of `values` and its percentile-bootstrap interval: `median`, `low`, `high`.

    With fewer than five values the interval is their smallest and largest: there is too little to draw from.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 5:
        low, high = numbers.min(), numbers.max()
    else:
        chosen = np.random.default_rng(0).integers(0, len(numbers), size=(draws, len(numbers)))
        tail = 50 * (1 - confidence)
        low, high = np.percentile(np.median(numbers[chosen], axis=1), [tail, 100 - tail])
    return {"median": float(np.median(numbers)), "low": float(low), "high": float(high)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and (where there is one) GPU of this machine."""
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round((_memory_bytes() or 0) / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    gpu = _gpu()
    return machine if gpu is None else {**machine, "gpu": gpu}


def describe_commit() -> dict[str, Any]:
    """Return the repository's commit, and whether tracked files differ from it; `None` outside a repository.

    A copy without its history may be told its commit by the environment variable `BENCHMARKS_COMMIT`.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD") or os.environ.get("BENCHMARKS_COMMIT")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def package_version(package: str) -> str | None:
    """The version of an installed package, `None` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    versions = {package: version for package in PACKAGES if (version := package_version(package)) is not None}
    # Run from the repository, ffx need not be installed.
    versions.setdefault("ffx", re.search(r'__version__ = "(.+)"', (ROOT / "ffx/__init__.py").read_text())[1])
    return versions


def _command() -> str:
    """The command line, with folders of this machine shortened to their last two names."""
    arguments = [str(Path(*Path(word).parts[-2:])) if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "benchmarks", *arguments])


def describe_run() -> dict[str, Any]:
    """Return what belongs to every row: time, command, commit, versions, machine and its load before the run."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": _command(),
        **describe_commit(),
        "versions": _versions(),
        "machine": describe_machine(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def _gpu() -> str | None:
    """Name of the first NVIDIA GPU, as the driver's program tells it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else None


def append_row(path: Path | None, row: dict[str, Any]) -> None:
    """Append `row` as one line of JSON to `path`; without a path, do nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, oldest first; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
