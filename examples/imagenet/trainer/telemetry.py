"""What the machine does while a run trains, sampled by a thread: the GPU through NVIDIA's library, and this process.

A line a sample in `telemetry` in the run's folder, and the means of each epoch in its `log`.
"""

from __future__ import annotations

import json
import os
import resource
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ffx.errors import FfxWarning

__all__ = ["TELEMETRY", "Telemetry"]

TELEMETRY = "telemetry"
_MIB = 1 << 20
# The means that an epoch's line in the log gets; the highest value of those with `memory` in their names.
_HIGHEST = "memory"


class Telemetry:
    """Samples until it is closed; does nothing with 0 seconds.

    Args:
        folder: of the run.
        seconds: between samples.
        device: whose numbers are wanted.
    """

    def __init__(self, folder: Path, seconds: float, device: torch.device) -> None:
        self._path, self._seconds = folder / TELEMETRY, seconds
        self._samples: list[dict[str, float]] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._clock = (time.monotonic(), _processor_seconds())
        if seconds > 0:
            self._gpu = _gpu_reader(device)
            self._thread = threading.Thread(target=self._run, name="ffx-telemetry", daemon=True)
            self._thread.start()

    def means(self) -> dict[str, float]:
        """Of the samples since the last call, by names that begin with `gpu_` or `process_`; none without samples."""
        if self._thread is None:
            return {}
        self._sample_or_end()
        with self._lock:
            samples, self._samples = self._samples, []
        names = {name: None for sample in samples for name in sample}
        values = {name: [sample[name] for sample in samples if name in sample] for name in names}
        return {
            name: max(found) if _HIGHEST in name else sum(found) / len(found) for name, found in values.items() if found
        }

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._sample_or_end()

    def _sample_or_end(self) -> None:
        if self._ended.is_set():
            return
        try:
            self._sample()
        except Exception as error:
            # A driver that fails, or a full disk, must not end a training.
            self._ended.set()
            warnings.warn(f"telemetry ends here: {error!r}", FfxWarning, stacklevel=2)

    def _sample(self) -> None:
        with self._lock:
            before, self._clock = self._clock, (time.monotonic(), _processor_seconds())
            elapsed = max(self._clock[0] - before[0], 1e-9)
            sample = {
                "process_cores": (self._clock[1] - before[1]) / elapsed,
                "process_memory_mib": _resident_bytes() / _MIB,
                **self._gpu(),
            }
            self._samples.append(sample)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"timestamp": time.time(), **sample}) + "\n")


def _processor_seconds() -> float:
    """Processor time of this process, and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Not Linux: the highest so far, in kilobytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpu_reader(device: torch.device) -> Callable[[], dict[str, Any]]:
    """What asks a GPU for its numbers; nothing on a CPU, or without NVIDIA's library for Python."""
    if device.type != "cuda":
        return dict
    try:
        import pynvml

        pynvml.nvmlInit()
        # By the card's own name: the process may see some of the machine's cards only.
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    except Exception as error:
        warnings.warn(
            f"logging.telemetry: no numbers of the GPU ({error!r}): pip install nvidia-ml-py", FfxWarning, stacklevel=3
        )
        return dict

    def read() -> dict[str, Any]:
        used, busy = pynvml.nvmlDeviceGetMemoryInfo(handle).used, pynvml.nvmlDeviceGetUtilizationRates(handle)
        return {
            "gpu_utilization": busy.gpu / 100,
            "gpu_memory_mib": used / _MIB,
            "gpu_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "gpu_celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        }

    return read
