"""Images a second of ffx and its peers, side by side.

For each kind of file and size of crop all peers that can read it take turns, an epoch each (`harness`). Of images by
wall-clock second and by CPU second the lower counts. FFCV reads its own file; so does ffx, the very same one, where
FFCV writes that kind: the tiled and the YUV file are ffx's, beside FFCV on the same pictures as plain JPEG and raw.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from .files import KINDS, Kind, NotWritten, Pictures
from .harness import (
    Contender,
    Session,
    add_common_options,
    chosen_cores,
    images_a_second,
    interval_cells,
    left_out,
    measure,
    summarise,
)
from .peers import PEERS, Task, task_arguments

__all__ = ["FIGURES", "SAMPLES", "add_beton_options", "add_options", "prepared_files", "present_peers", "run"]

# Of an epoch: FFCV sets itself up anew in each, so short ones count against it.
SAMPLES = 12_000
FIGURES = {"images_a_second": images_a_second}
COLUMNS = ("file", "px", "system", "images a second", "95 %", "x reference", "95 %")
# Systems with FFCV's interface: they take a number of threads, let go of Python's lock, and have epochs.
BETON_PEERS = ("ffx", "ffcv")


def add_options(parser: argparse.ArgumentParser, images_required: bool = True) -> None:
    """Declare the options of `python -m benchmarks loader`."""
    add_common_options(parser, images_required=images_required)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="samples an epoch; pictures are repeated")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 224], metavar="PIXELS")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--reference", default="ffcv", help="peer that ratios are formed with")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="threads or processes of each peer")


def add_beton_options(parser: argparse.ArgumentParser, kinds: list[str], size: int, batch_size: int) -> None:
    """Declare what is shared by the benchmarks that ask more of a loader than its rate, and of these systems alone."""
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=kinds, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--size", type=int, default=size, help="side of the crops in pixels")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--peers", nargs="+", choices=BETON_PEERS, default=list(BETON_PEERS))


def present_peers(names: list[str]) -> list[str]:
    """Those of `names` that can run here; says of the others what they lack."""
    for name in names:
        if missing := PEERS[name].missing():
            left_out(name, missing)
    return [name for name in names if not PEERS[name].missing()]


def prepared_files(kind: Kind, pictures: Pictures, cache: Path, peers: list[str]) -> dict[str, tuple[Path, str]]:
    """What each peer reads for a kind and who wrote it, without those that have no such kind.

    Empty, and a word why, where the kind cannot be written.
    """
    found: dict[str, tuple[Path, str]] = {}
    for name in peers:
        try:
            prepared = PEERS[name].prepare(kind, pictures, cache)
        except NotWritten as error:
            left_out(kind.name, str(error))
            return {}
        if prepared is not None:
            found[name] = (prepared[0].resolve(), prepared[1])
    return found


def _contenders(options: argparse.Namespace, files: dict[str, tuple[Path, str]], size: int) -> Iterator[Contender]:
    cores = chosen_cores(options, options.workers)
    for name, (path, _) in files.items():
        task = Task(str(path), size, options.samples, options.batch_size, options.workers)
        arguments = task_arguments(name, task)
        yield Contender(name, "benchmarks.peers:open_loader", arguments, cores, one_thread=options.workers == 1)


def run(options: argparse.Namespace) -> int:
    """Measure every kind and size; print a Markdown table and append rows to `options.out`."""
    peers, pictures = present_peers(options.peers), Pictures(options.images, options.limit)
    cores = list(chosen_cores(options, options.workers))
    session = Session("loader", options.out, COLUMNS, pictures=len(pictures), cores=cores)
    for kind in (KINDS[name] for name in options.kinds):
        files = prepared_files(kind, pictures, options.cache, peers)
        for size in options.sizes if files else []:
            rounds = measure(_contenders(options, files, size), options.warm_up, options.rounds)
            for name, found in summarise(rounds, FIGURES, options.reference).items():
                cells = [kind.name, size, name, *interval_cells(found["images_a_second"])]
                path, written_by = files[name]
                task = {
                    **{name: getattr(options, name) for name in ("samples", "batch_size", "workers")},
                    "size": size,
                    "file": path.name,
                    "file_bytes": _size(path),
                    "written_by": written_by,
                }
                session.line(
                    [*cells, *interval_cells(found.get("ratio"), 2)],
                    {"kind": asdict(kind), "peer": name, "task": task, **found},
                )
    return 0


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file())
