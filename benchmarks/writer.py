"""Images a second of ffx's writer and FFCV's: the same pictures, the same settings, the same number of processes.

ImageFolder        torchvision's data set, which decodes each picture with Pillow: what both systems' users have
JPEGFolder         ffx's own: the files' bytes, so that a picture which is a JPEG of the right size is stored as it is

A round writes one file of `--samples` samples, the pictures over and over, in a process of its own: from making the
writer until the file is there. Imports do not count. Peak memory is the sum over all processes, looked at ten times a
second.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import Pictures, image_folder
from .harness import (
    Contender,
    Round,
    Session,
    add_common_options,
    interval_cells,
    measure,
    summarise,
    usable_cores,
)
from .loader import present_peers
from .memory import MIB, own_bytes
from .worker import cpu_seconds, descendants

__all__ = ["SETTINGS", "SOURCES", "add_options", "open_writer", "run"]

COLUMNS = ("setting", "writer", "from", "images a second", "95 %", "x reference", "95 %", "file (MB)", "memory (MiB)")
FIGURES: dict[str, Callable[[Round], float]] = {
    "images_a_second": lambda round_: round_["images"] / round_["wall"],
    "peak_bytes": lambda round_: round_["peak_bytes"],
}


@dataclass(frozen=True)
class Setting:
    """Arguments of `RGBImageField`, under the name that `write_dataset.sh` would give them."""

    name: str
    arguments: Mapping[str, Any]


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            "400 0.10 90",
            {"write_mode": "proportion", "max_resolution": 400, "compress_probability": 0.1, "jpeg_quality": 90},
        ),
        Setting(
            "500 1.0 90",
            {"write_mode": "proportion", "max_resolution": 500, "compress_probability": 1.0, "jpeg_quality": 90},
        ),
        Setting("as they are", {"write_mode": "jpg", "jpeg_quality": 90}),
    )
}
# Name -> system, and where its data set comes from.
SOURCES = {
    "ffx, ImageFolder": ("ffx", "torchvision.datasets:ImageFolder"),
    "ffx, JPEGFolder": ("ffx", "ffx.writer:JPEGFolder"),
    "ffcv, ImageFolder": ("ffcv", "torchvision.datasets:ImageFolder"),
}
REFERENCE = "ffcv, ImageFolder"


class _PeakMemory:
    """Watches the memory of this process and its descendants; `bytes` is the most that was seen."""

    def __enter__(self) -> _PeakMemory:
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, sum(map(_own_bytes_or_none, descendants(os.getpid()))))
            if self._end.wait(0.1):
                return


def _own_bytes_or_none(process: int) -> int:
    try:
        return own_bytes(process)
    except OSError:  # ended since it was listed
        return 0


def open_writer(source: str, setting: str, folder: str, target: str, workers: int, samples: int) -> Callable[[], Round]:
    """A round: write `samples` pictures of `folder` into a file in `target`, look at it, and remove it."""
    system, data_set = SOURCES[source]
    fields: Any = importlib.import_module(f"{system}.fields")
    writer: Any = importlib.import_module(f"{system}.writer")
    module, _, name = data_set.partition(":")
    pictures = getattr(importlib.import_module(module), name)(folder)
    indices = [index % len(pictures) for index in range(samples)]

    def do_round() -> Round:
        columns = {"image": fields.RGBImageField(**SETTINGS[setting].arguments), "label": fields.IntField()}
        with tempfile.TemporaryDirectory(dir=target) as place, _PeakMemory() as peak:
            path = Path(place) / "written.beton"
            start_cpu, start = cpu_seconds(), time.perf_counter()
            to = writer.DatasetWriter(str(path), columns, num_workers=workers)
            to.from_indexed_dataset(pictures, indices=indices, chunksize=20)
            wall, cpu = time.perf_counter() - start, cpu_seconds() - start_cpu
            size = path.stat().st_size
        return {"images": samples, "wall": wall, "cpu": cpu, "file_bytes": size, "peak_bytes": peak.bytes}

    return do_round


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks writer`."""
    add_common_options(parser, rounds=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--samples", type=int, default=4000, help="samples of a file")
    parser.add_argument(
        "--target", type=Path, help="folder for the files, which are removed; by default that of --cache"
    )
    parser.add_argument("--workers", type=int, default=len(usable_cores()) or 1, help="processes of each writer")


def run(options: argparse.Namespace) -> int:
    """Measure every setting; print a Markdown table and append rows to `options.out`."""
    pictures = Pictures(options.images, options.limit)
    cores = options.cores or usable_cores()
    options.cache.mkdir(parents=True, exist_ok=True)
    folder = image_folder(pictures, options.cache).resolve()
    systems = present_peers(["ffx", "ffcv"])
    sizes = {"pictures": len(pictures), "samples": options.samples}
    session = Session("writer", options.out, COLUMNS, **sizes, cores=cores, workers=options.workers)
    for setting in options.settings:
        contenders = [
            Contender(
                name,
                "benchmarks.writer:open_writer",
                {
                    "source": name,
                    "setting": setting,
                    "folder": str(folder),
                    "target": str((options.target or options.cache).resolve()),
                    "workers": options.workers,
                    "samples": options.samples,
                },
                tuple(cores),
                fresh=True,
            )
            for name, (system, _) in SOURCES.items()
            if system in systems
        ]
        rounds = measure(contenders, options.warm_up, options.rounds)
        for name, found in summarise(rounds, FIGURES, REFERENCE).items():
            size = found["rounds"][0]["file_bytes"]
            cells = [setting, *name.split(", "), *interval_cells(found["images_a_second"])]
            cells += [*interval_cells(found.get("ratio"), 2), f"{size / 1e6:,.1f}"]
            cells.append(f"{found['peak_bytes']['median'] / MIB:,.0f}")
            row = {"setting": setting, "field": dict(SETTINGS[setting].arguments), "source": name, "file_bytes": size}
            session.line(cells, {**row, **found})
    return 0
