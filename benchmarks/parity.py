"""Pixel differences between ffx and FFCV on the same pictures.

Three comparisons, for pictures written at `400 0.10 90` and at `500 1.0 90`:
stored   raw samples as the two writers stored them: expected to be equal;
raw      the same centre crop of the same raw sample, after resize, by the two loaders: at most 1 grey level;
jpeg     the same of the same JPEG sample: below 1 grey level in the mean.
The exit status is 1 when one of them is exceeded, and 2 when FFCV is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .files import KINDS, Kind, Pictures, written_file
from .peers import PEERS
from .rows import append_row, describe_run

__all__ = ["add_options", "compare_crops", "compare_stored", "run"]

RAW_MODE = 1
RAW_LIMIT, JPEG_MEAN_LIMIT = 1, 1.0


def _stored_raw(path: Path) -> dict[int, np.ndarray]:
    """Return the stored pixels of every raw sample of a file, by sample."""
    metadata = importlib.import_module("ffx.reader").Reader(str(path)).metadata["f0"]
    file = np.memmap(path, np.uint8, "r")
    pixels = {}
    for index in np.flatnonzero(metadata["mode"] == RAW_MODE):
        height, width, pointer = (int(metadata[name][index]) for name in ("height", "width", "data_ptr"))
        pixels[int(index)] = file[pointer : pointer + 3 * height * width].reshape(height, width, 3)
    return pixels


def compare_stored(ours: Path, theirs: Path) -> dict[str, Any]:
    """Compare the samples that are raw in both files; `maximum` is the largest difference in grey levels."""
    one, other = _stored_raw(ours), _stored_raw(theirs)
    both = sorted(one.keys() & other.keys())
    maximum = 0
    for index in both:
        if one[index].shape != other[index].shape:
            raise SystemExit(
                f"benchmarks: sample {index}: {one[index].shape} in {ours}, {other[index].shape} in {theirs}"
            )
        maximum = max(maximum, int(np.abs(one[index].astype(np.int16) - other[index]).max()))
    return {"samples": len(both), "maximum": maximum}


def _crops(package: str, path: Path, size: int) -> Iterator[np.ndarray]:
    """Yield the centre crop (224/256 of the shorter side) of every sample, resized to `size` pixels square."""
    decoders = importlib.import_module(f"{package}.fields.decoders")
    loader = importlib.import_module(f"{package}.loader")
    to_tensor = importlib.import_module(f"{package}.transforms").ToTensor
    batches = loader.Loader(
        str(path),
        batch_size=50,
        num_workers=1,
        order=loader.OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={"image": [decoders.CenterCropRGBImageDecoder((size, size), 224 / 256), to_tensor()], "label": None},
    )
    for batch in batches:
        yield from np.array(batch[0])


def compare_crops(path: Path, size: int) -> dict[str, dict[str, float]]:
    """Compare ffx's and FFCV's crops of every sample of one file, raw and JPEG samples apart."""
    modes = importlib.import_module("ffx.reader").Reader(str(path)).metadata["f0"]["mode"]
    maxima = np.zeros(len(modes), np.int64)
    means = np.zeros(len(modes), np.float64)
    for index, (one, other) in enumerate(zip(_crops("ffx", path, size), _crops("ffcv", path, size), strict=True)):
        difference = np.abs(one.astype(np.int16) - other)
        maxima[index], means[index] = difference.max(), difference.mean()
    found = {}
    for name, chosen in (("raw", modes == RAW_MODE), ("jpeg", modes != RAW_MODE)):
        if chosen.any():
            found[name] = {
                "samples": int(chosen.sum()),
                "maximum": int(maxima[chosen].max()),
                "mean": float(means[chosen].mean()),
                "largest_mean": float(means[chosen].max()),
            }
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks parity`."""
    parser.add_argument("--images", type=Path, required=True, help="folder with pictures, below it or in class folders")
    parser.add_argument("--out", type=Path, help="file that rows are appended to, one JSON object a line")
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks"), help="folder for the files to read")
    parser.add_argument("--limit", type=int, default=1_000_000, help="pictures that are compared (all)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["mix400", "jpg500"], metavar="KIND")
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels")


def _within(comparison: str, found: dict[str, Any]) -> bool:
    if comparison == "stored":
        return found["maximum"] == 0
    return found["maximum"] <= RAW_LIMIT if comparison == "raw" else found["mean"] < JPEG_MEAN_LIMIT


def _compare(kind: Kind, pictures: Pictures, options: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (comparison, whose file, what was found)."""
    files = {system: written_file(system, kind, pictures, options.cache) for system in ("ffx", "ffcv")}
    stored = compare_stored(files["ffx"], files["ffcv"])
    if stored["samples"]:
        yield "stored", "both", stored
    for system, path in files.items():
        for comparison, found in compare_crops(path, options.size).items():
            yield comparison, system, found


def run(options: argparse.Namespace) -> int:
    """Compare every kind; print a Markdown table, append rows to `options.out`, and return the exit status."""
    if not PEERS["ffcv"].is_here():
        print("benchmarks: parity needs FFCV beside ffx: see benchmarks/install_peers.sh", file=sys.stderr)
        return 2
    pictures = Pictures(options.images, options.limit)
    description = {"benchmark": "parity", "pictures": len(pictures), "size": options.size, **describe_run()}
    good = True
    print("| file | written by | compared | samples | maximum | mean | largest mean of a picture | within the limit |")
    print("|---|---|---|---:|---:|---:|---:|---|", flush=True)
    for kind in (KINDS[name] for name in options.kinds):
        for comparison, system, found in _compare(kind, pictures, options):
            within = _within(comparison, found)
            good &= within
            means = [f"{found[name]:.4f}" if name in found else "" for name in ("mean", "largest_mean")]
            cells = [
                kind.name,
                system,
                comparison,
                found["samples"],
                found["maximum"],
                *means,
                "yes" if within else "NO",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
            row = {"kind": kind.name, "written_by": system, "compared": comparison, **found, "within": within}
            append_row(options.out, {**description, **row})
    return 0 if good else 1
