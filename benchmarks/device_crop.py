"""Images a second on a GPU: decoded on the CPU, cropped on the GPU from what is sent there or lies there already.

Every epoch ends when the GPU has finished; nothing is trained. `host` decodes on the CPU and copies uint8 batches,
`streamed` sends the crops' stored pixels, `resident` keeps the file's images in the GPU's memory. In all three the
GPU gets channels-last batches of the chosen type. The ways take turns; the first rounds warm up and are not counted.
The rate is that from the first batch to the last: what an epoch costs before its first batch stands beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from .files import add_file_options, file_of
from .rows import append_row, describe_run, median_with_interval

__all__ = ["SKIPPED", "WAYS", "add_options", "epoch", "open_loader", "run"]

# Exit status of a benchmark that lacks something and measured nothing (as automake has it).
SKIPPED = 77
WAYS = ("host", "streamed", "resident")
TYPES = ("uint8", "float16", "bfloat16", "float32")
MEAN, STD = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]


def open_loader(
    path: Path,
    way: str,
    size: int,
    batch_size: int,
    workers: int,
    dtype: str = "bfloat16",
    samples: int | None = None,
    device: str = "cuda",
) -> Any:
    """A loader of random resized crops and labels on a device.

    Args:
        path: file with the fields `image` and `label`; other fields are left out.
        way: one of `WAYS`.
        size: side of the results in pixels.
        batch_size, workers: of the loader.
        dtype: `uint8`, or what images are normalised to.
        samples: an epoch's; the file's are repeated. `None`: each once.
        device: where batches go.
    """
    import numpy as np
    import torch

    from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffx.loader import Loader, OrderOption
    from ffx.reader import Reader
    from ffx.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToDevice, ToTensor, ToTorchImage

    reader = Reader(path)
    decoder = RandomResizedCropRGBImageDecoder((size, size))
    if way != "host":
        decoder = decoder.on(device, resident=way == "resident")
    normalised = [] if dtype == "uint8" else [NormalizeImage(MEAN, STD, getattr(torch, dtype))]
    pipelines: dict[str, Any] = dict.fromkeys(reader.field_names)
    rest = [RandomHorizontalFlip(), ToTensor(), ToDevice(device), ToTorchImage(), *normalised]
    pipelines["image"] = [decoder, *rest]
    pipelines["label"] = [IntDecoder(), ToTensor(), Squeeze(), ToDevice(device)]
    return Loader(
        str(path),
        batch_size,
        workers,
        order=OrderOption.RANDOM,
        seed=0,
        indices=None if samples is None else np.arange(samples) % reader.num_samples,
        pipelines=pipelines,
    )


def epoch(loader: Any, wait: Any) -> dict[str, float]:
    """Go once through a loader; `wait()` returns when the device has finished.

    Returns:
        `images`, `first` (seconds to the first batch), `wall` and `cpu` (seconds from there to the end) and
        `images_a_second`, not counting the first batch.
    """
    images, begin, first, cpu = 0, time.perf_counter(), 0.0, 0.0
    for batch, _ in loader:
        if images == 0:
            first, cpu = time.perf_counter(), time.process_time()
        images += len(batch)
    wait()
    wall = time.perf_counter() - first
    counted = images - loader.batch_size
    return {
        "images": images,
        "first": first - begin,
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "images_a_second": counted / wall,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks device_crop`."""
    add_file_options(parser)
    parser.add_argument("--out", type=Path, help="file that rows are appended to, one JSON object a line")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS")
    parser.add_argument("--dtype", choices=TYPES, default="bfloat16", help="type of the batches")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=-1, help="threads of the loader (-1: one a core)")
    parser.add_argument("--samples", type=int, default=200_000, help="an epoch's; the file's are repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=1, help="rounds that are not counted")


def run(options: argparse.Namespace) -> int:
    """Measure every way; print a Markdown table and append rows to `options.out`."""
    import torch

    if not torch.cuda.is_available():
        print("left out: device_crop (torch sees no CUDA device)", file=sys.stderr)
        return SKIPPED
    if options.samples < 2 * options.batch_size:
        raise SystemExit(f"benchmarks: expected at least two batches, found --samples {options.samples}")
    beton = file_of(options)
    loaders = {
        way: open_loader(beton, way, options.size, options.batch_size, options.workers, options.dtype, options.samples)
        for way in options.ways
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in loaders}
    for number in range(-options.warm_up, options.rounds):
        for way, loader in loaders.items():
            found = epoch(loader, torch.cuda.synchronize)
            if number >= 0:
                rounds[way].append(found)
    described = {"benchmark": "device_crop", "gpu": torch.cuda.get_device_name(), **describe_run()}
    print(
        "| way | images a second | 95 % | CPU seconds a second | seconds to the first batch |\n|---|---:|---|---:|---:|"
    )
    for way, own in rounds.items():
        rate = median_with_interval([one["images_a_second"] for one in own])
        cpu = median_with_interval([one["cpu"] / one["wall"] for one in own])
        first = median_with_interval([one["first"] for one in own])
        print(
            f"| {way} | {rate['median']:,.0f} | {rate['low']:,.0f} to {rate['high']:,.0f} | {cpu['median']:.2f} | "
            f"{first['median']:.3f} |",
            flush=True,
        )
        task = {name: getattr(options, name) for name in ("size", "dtype", "batch_size", "workers", "samples")}
        append_row(options.out, {**described, "way": way, "task": task, "images_a_second": rate, "rounds": own})
    return 0
