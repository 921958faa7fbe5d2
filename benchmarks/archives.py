"""Seconds to write a file straight from ILSVRC's archives, beside writing it from the unpacked folders.

folder             `JPEGFolder` of the folders that the archives were unpacked to: what users have had
archive            `ImageArchive`, which reads the pictures in place; finding them by the headers counts
unpack             only unpacking the archive, by as many threads (`writer/extract_ILSVRC_mp.py`)

The archives have ILSVRC2012's layout and hold the given pictures, `--repeats` times over
(`tests/ilsvrc_archives.py`). A round is a process of its own; imports do not count, and the files are in the page
cache. Both files must have the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Imported here, where no time is taken: `JPEGFolder` needs it.
import torchvision.datasets  # noqa: F401

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter, ImageArchive, JPEGFolder, TarArchive
from tests.ilsvrc_archives import TRAIN, VAL, VALPREP, write_archives
from writer.extraction import train_tasks, unpack, val_tasks
from writer.ilsvrc import read_valprep

from .files import Pictures
from .harness import Contender, Round, Session, add_common_options, interval_cells, measure, summarise, usable_cores
from .worker import cpu_seconds
from .writer import SETTINGS

__all__ = ["WAYS", "add_options", "open_way", "run"]

COLUMNS = ("split", "setting", "way", "seconds", "95 %", "x folder", "95 %")
FIGURES: dict[str, Callable[[Round], float]] = {"seconds": lambda round_: round_["wall"]}
WAYS = ("folder", "archive", "unpack")


def _unpack(split: str, tars: Path, output: Path, threads: int) -> None:
    archive = TarArchive(tars / (TRAIN if split == "train" else VAL))
    tasks = train_tasks(archive) if split == "train" else val_tasks(archive, read_valprep(tars / VALPREP))
    unpack(split, archive, tasks, output, threads)


def _open_pictures(way: str, split: str, tars: Path, folders: Path) -> Any:
    if way == "folder":
        return JPEGFolder(folders / split)
    if split == "train":
        return ImageArchive(tars / TRAIN)
    return ImageArchive(tars / VAL, read_valprep(tars / VALPREP))


def open_way(way: str, split: str, setting: str, tars: str, folders: str, target: str, workers: int) -> Any:
    """A round: find the pictures and write them into a file in `target`, or unpack them there; then remove it."""

    def do_round() -> Round:
        with tempfile.TemporaryDirectory(dir=target) as place:
            path = Path(place) / "written.beton"
            start_cpu, start = cpu_seconds(), time.perf_counter()
            if way == "unpack":
                _unpack(split, Path(tars), Path(place), workers)
            else:
                columns = {"image": RGBImageField(**SETTINGS[setting].arguments), "label": IntField()}
                pictures = _open_pictures(way, split, Path(tars), Path(folders))
                DatasetWriter(path, columns, num_workers=workers).from_indexed_dataset(pictures)
            wall, cpu = time.perf_counter() - start, cpu_seconds() - start_cpu
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if way != "unpack" else ""
        return {"wall": wall, "cpu": cpu, "sha256": digest}

    return do_round


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks archives`."""
    add_common_options(parser, rounds=5)
    parser.add_argument("--repeats", type=int, default=4, help="times that the archives hold each picture")
    parser.add_argument("--splits", nargs="+", choices=("train", "val"), default=["train", "val"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["400 0.10 90"], metavar="SETTING")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--target", type=Path, help="folder for the files, which are removed; default: that of --cache")
    parser.add_argument("--workers", type=int, default=len(usable_cores()) or 1, help="processes, or threads")


def _archives(pictures: Pictures, cache: Path, repeats: int) -> tuple[Path, Path]:
    """The folders of the archives and of what was unpacked of them, made once."""
    folder = pictures.cached(cache, f"ilsvrc_{repeats}").resolve()
    if not folder.exists():
        by_class: dict[str, list[bytes]] = {}
        for path, label in pictures.samples:
            by_class.setdefault(Path(pictures.classes[label]).name, []).append(path.read_bytes())
        by_class = {name: own * repeats for name, own in by_class.items()}
        space = folder.with_suffix(".part")
        shutil.rmtree(space, ignore_errors=True)
        write_archives(space / "tars", by_class, by_class)
        for split in ("train", "val"):
            _unpack(split, space / "tars", space / "folders", 4)
        space.rename(folder)
    return folder / "tars", folder / "folders"


def run(options: argparse.Namespace) -> int:
    """Measure every split and setting; print a Markdown table and append rows to `options.out`."""
    pictures = Pictures(options.images, options.limit)
    cores = options.cores or usable_cores()
    options.cache.mkdir(parents=True, exist_ok=True)
    tars, folders = _archives(pictures, options.cache, options.repeats)
    sizes = {"pictures": len(pictures), "samples": len(pictures) * options.repeats}
    session = Session("archives", options.out, COLUMNS, **sizes, cores=cores, workers=options.workers)
    for split in options.splits:
        for setting in options.settings:
            arguments = {
                "split": split,
                "setting": setting,
                "tars": str(tars),
                "folders": str(folders),
                "target": str((options.target or options.cache).resolve()),
                "workers": options.workers,
            }
            contenders = [
                Contender(way, "benchmarks.archives:open_way", {"way": way, **arguments}, tuple(cores), fresh=True)
                for way in options.ways
            ]
            rounds = measure(contenders, options.warm_up, options.rounds)
            digests = {round_["sha256"] for own in rounds.values() for round_ in own} - {""}
            if len(digests) > 1:
                raise SystemExit(f"benchmarks: expected one file of all ways, found {len(digests)} different ones")
            for way, found in summarise(rounds, FIGURES, "folder").items():
                cells = [split, setting, way, *interval_cells(found["seconds"], 2)]
                cells += interval_cells(found.get("ratio"), 2)
                session.line(cells, {"split": split, "setting": setting, "way": way, **found})
    return 0
