"""A trace of training on a GPU: do copies overlap with compute, and does anything wait in the loop?

Trains a network on a file's images for a few steps under torch's profiler. The trace is kept (`--out`, to be opened
with Perfetto or chrome://tracing); what it shows is printed and stands beside it as JSON: how much of the copies'
time lies under kernels of other streams, and how often the GPU or new memory was waited for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .device_crop import SKIPPED, WAYS, open_loader
from .files import add_file_options, file_of

__all__ = ["add_options", "covered", "run", "summarise_trace"]

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
ALLOCATIONS = ("cudaMalloc", "cudaHostAlloc", "cudaFree", "cudaFreeHost")


def _merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals that touch or overlap put together, in order."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return merged


def covered(intervals: Sequence[tuple[float, float]], cover: Sequence[tuple[float, float]]) -> float:
    """How much of the intervals' time lies within those of `cover`."""
    others = _merged(cover)
    return sum(
        max(0.0, min(stop, other_stop) - max(start, other_start))
        for start, stop in _merged(intervals)
        for other_start, other_stop in others
    )


def summarise_trace(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a trace shows (times in milliseconds).

    Args:
        events: the `traceEvents` of a trace that torch's profiler exported.
    """
    copies: list[tuple[float, float]] = []
    kernels: dict[Any, list[tuple[float, float]]] = {}
    copy_streams = set()
    calls: Counter[str] = Counter()
    for event in events:
        kind, name = event.get("cat"), str(event.get("name", ""))
        if kind == "cuda_runtime":
            calls[name] += 1
        if kind not in ("kernel", "gpu_memcpy"):
            continue
        start, stream = float(event["ts"]), event["args"].get("stream")
        interval = (start, start + float(event["dur"]))
        if kind == "kernel":
            kernels.setdefault(stream, []).append(interval)
        elif "HtoD" in name:
            copies.append(interval)
            copy_streams.add(stream)
    others = [interval for stream, own in kernels.items() if stream not in copy_streams for interval in own]
    copy_time = sum(stop - start for start, stop in _merged(copies))
    return {
        "copies": len(copies),
        "copy_ms": copy_time / 1000,
        "overlap": covered(copies, others) / copy_time if copy_time else None,
        "from_pageable_memory": sum("Pageable" in str(event.get("name", "")) for event in events),
        "waits": {name: calls[name] for name in WAITS if calls[name]},
        "allocations": {name: calls[name] for name in ALLOCATIONS if calls[name]},
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks trace`."""
    add_file_options(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/trace"), help="folder for traces and summaries")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["host"], help="where images are cropped")
    parser.add_argument("--network", default="resnet18", help="torchvision's name")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=-1, help="threads that decode (-1: one a core)")
    parser.add_argument("--steps", type=int, default=20, help="steps in the trace, after as many that warm up")


def _batches(loader: Any) -> Iterable[Any]:
    while True:
        yield from loader


def _trace(options: argparse.Namespace, way: str) -> Path:
    """Train under the profiler; the trace's path."""
    import torch
    import torchvision

    network = torchvision.models.get_model(options.network).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def train(batches: Iterable[Any]) -> None:
        for images, labels in batches:
            with torch.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    path = options.out / f"{way}-{options.network}-{options.size}.json"
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    beton = file_of(options)
    with open_loader(beton, way, options.size, options.batch_size, options.workers) as loader:
        if len(loader) < 1:
            raise SystemExit(f"benchmarks: {beton} has fewer images than --batch-size {options.batch_size}")
        batches = iter(_batches(loader))
        train(islice(batches, options.steps))
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=activities) as profile:
            train(islice(batches, options.steps))
            torch.cuda.synchronize()
        profile.export_chrome_trace(str(path))
        batches.close()
    return path


def run(options: argparse.Namespace) -> int:
    """Trace every way; print what each trace shows."""
    import torch

    if not torch.cuda.is_available():
        print("left out: trace (torch sees no CUDA device)", file=sys.stderr)
        return SKIPPED
    options.out.mkdir(parents=True, exist_ok=True)
    for way in options.ways:
        path = _trace(options, way)
        summary = summarise_trace(json.loads(path.read_text())["traceEvents"])
        summary = {"way": way, "network": options.network, "size": options.size, "steps": options.steps, **summary}
        path.with_suffix(".summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(json.dumps(summary), flush=True)
    return 0
