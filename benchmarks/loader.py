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
from typing import Any

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

__all__ = ["FIGURES", "add_options", "present_peers", "run"]

FIGURES = {"images_a_second": images_a_second}
COLUMNS = ("file", "px", "system", "images a second", "95 %", "x reference", "95 %")


def add_options(parser: argparse.ArgumentParser, images_required: bool = True) -> None:
    """Declare the options of `python -m benchmarks loader`."""
    add_common_options(parser, images_required=images_required)
    parser.add_argument("--samples", type=int, default=12_000, help="samples an epoch; pictures are repeated")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 224], metavar="PIXELS")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--reference", default="ffcv", help="peer that ratios are formed with")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="threads or processes of each peer")


def present_peers(names: list[str]) -> list[str]:
    """Those of `names` that can run here; says of the others what they lack."""
    for name in names:
        if missing := PEERS[name].missing():
            left_out(name, missing)
    return [name for name in names if not PEERS[name].missing()]


def _tasks(options: argparse.Namespace, kind: Kind, pictures: Pictures, peers: list[str]) -> dict[str, dict[str, Any]]:
    """What each peer reads for a kind, with the size still to be filled in; empty where ffx has no such kind."""
    found: dict[str, dict[str, Any]] = {}
    for name in peers:
        try:
            prepared = PEERS[name].prepare(kind, pictures, options.cache)
        except NotWritten as error:
            left_out(kind.name, str(error))
            return {}
        if prepared is not None:
            found[name] = {"path": prepared[0], "written_by": prepared[1]}
    return found


def _contenders(options: argparse.Namespace, tasks: dict[str, dict[str, Any]], size: int) -> Iterator[Contender]:
    cores = chosen_cores(options, options.workers)
    for name, prepared in tasks.items():
        task = Task(str(prepared["path"].resolve()), size, options.samples, options.batch_size, options.workers)
        arguments = task_arguments(name, task)
        yield Contender(name, "benchmarks.peers:open_loader", arguments, cores, one_thread=options.workers == 1)


def run(options: argparse.Namespace) -> int:
    """Measure every kind and size; print a Markdown table and append rows to `options.out`."""
    peers, pictures = present_peers(options.peers), Pictures(options.images, options.limit)
    cores = list(chosen_cores(options, options.workers))
    session = Session("loader", options.out, COLUMNS, pictures=len(pictures), cores=cores)
    for kind in (KINDS[name] for name in options.kinds):
        tasks = _tasks(options, kind, pictures, peers)
        for size in options.sizes if tasks else []:
            rounds = measure(_contenders(options, tasks, size), options.warm_up, options.rounds)
            for name, found in summarise(rounds, FIGURES, options.reference).items():
                cells = [kind.name, size, name, *interval_cells(found["images_a_second"])]
                task = {
                    **{name: getattr(options, name) for name in ("samples", "batch_size", "workers")},
                    "size": size,
                    "file": tasks[name]["path"].name,
                    "file_bytes": _size(tasks[name]["path"]),
                    "written_by": tasks[name]["written_by"],
                }
                session.line(
                    [*cells, *interval_cells(found.get("ratio"), 2)],
                    {"kind": asdict(kind), "peer": name, "task": task, **found},
                )
    return 0


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file())
