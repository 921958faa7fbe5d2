"""`logging.profile`: a trace of some steps by torch's profiler, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from ffx.errors import FfxWarning

__all__ = ["TRACED_STEPS", "traced"]

TRACED_STEPS = 5
# The first step compiles and fills caches; the profiler itself needs one to warm up.
_SKIPPED_STEPS = 1


def traced(
    batches: Iterator[Any], steps: int, path: Path, device: torch.device, say: Callable[[str], object]
) -> Generator[Any, None, None]:
    """The batches of an epoch of so many steps; what is done with up to five of them is written as a Chrome trace.

    Left out are the first step, and one in which the profiler warms up, where the epoch has that many.

    Args:
        path: of the trace, JSON; its folder is made.
        say: is told where the trace is.
    """
    from torch.profiler import ProfilerActivity, profile, schedule

    def write(profiler: Any) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
        except (OSError, RuntimeError) as error:
            # A trace is no reason to lose a training.
            warnings.warn(f"logging.profile: the trace cannot be written to {path}: {error}", FfxWarning, stacklevel=2)
            return
        say(f"trace of {active} step{'s' if active > 1 else ''}: {path}")

    skipped = min(_SKIPPED_STEPS, max(steps - 2, 0))
    warm_up = min(1, steps - 1)
    active = min(TRACED_STEPS, steps - skipped - warm_up)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with warnings.catch_warnings():
        # An epoch of one step leaves nothing to warm up with.
        warnings.filterwarnings("ignore", "Profiler won't be using warmup")
        phases = schedule(wait=skipped, warmup=warm_up, active=active, repeat=1)
    with profile(activities=activities, schedule=phases, on_trace_ready=write) as profiler:
        for batch in batches:
            yield batch
            profiler.step()
