"""More workers, a busy main thread, two loaders at once: does the loader still get what the cores can give?

alone      1, 2, 4 … workers, each pinned to as many cores; efficiency is the rate over workers times one worker's.
busy       the same loader, read by a thread beside a main thread that spins in pure Python and so holds Python's
           global lock whenever it can; both with one core more than workers. The figure is busy over idle.
two        two loaders of half the workers each in one process; the figure is their sum over one loader's rate.

Wall-clock seconds alone: here the question is what comes out, not what it costs.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from .files import KINDS, Pictures
from .harness import (
    Contender,
    Round,
    Session,
    add_common_options,
    interval_cells,
    left_out,
    measure,
    summarise,
    usable_cores,
)
from .loader import add_beton_options, prepared_files, present_peers
from .peers import PEERS, Task
from .rows import median_with_interval
from .worker import cpu_seconds

__all__ = ["add_options", "open_scaling", "run"]

FIGURES = {"images_a_second": lambda round_: round_["images"] / round_["wall"]}
COLUMNS = ("system", "what", "workers", "images a second", "95 %", "share", "95 %", "of")


def open_scaling(peer: str, task: Mapping[str, Any], loaders: int, busy: bool) -> Callable[[], Round]:
    """A round: one epoch of `loaders` loaders at once, read by threads; `busy` spins in the main thread meanwhile."""
    opened = [PEERS[peer].open(replace(Task(**task), seed=number)) for number in range(loaders)]

    def do_round() -> Round:
        counts = [0] * loaders

        def read(number: int) -> None:
            for batch in opened[number]:
                counts[number] += len(batch[0])

        threads = [threading.Thread(target=read, args=(number,)) for number in range(loaders)]
        start_cpu, start = cpu_seconds(), time.perf_counter()
        for thread in threads:
            thread.start()
        turns = 0
        while busy and any(thread.is_alive() for thread in threads):
            for _ in range(10_000):
                turns += 1
        for thread in threads:
            thread.join()
        return {"images": sum(counts), "wall": time.perf_counter() - start, "cpu": cpu_seconds() - start_cpu}

    return do_round


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks scaling`."""
    add_common_options(parser)
    add_beton_options(parser, kinds=["jpg500", "raw400"], size=160, batch_size=512)
    parser.add_argument("--samples", type=int, default=12_000, help="samples an epoch and worker")
    parser.add_argument("--workers", nargs="+", type=int, help="default: 1, 2, 4 … up to all cores")


def _doubled(most: int) -> list[int]:
    counts = [1]
    while 2 * counts[-1] <= most:
        counts.append(2 * counts[-1])
    return counts if counts[-1] == most else [*counts, most]


def _contenders(peer: str, task: Task, workers: list[int], cores: list[int]) -> Iterator[tuple[Contender, dict]]:
    """Each contender with what its row says: what it is, and whose rate it is held against, times what."""

    def contender(what: str, count: int, used: int, loaders: int = 1, busy: bool = False) -> Contender:
        own = replace(task, workers=count, samples=task.samples * count)
        arguments = {"peer": peer, "task": asdict(own), "loaders": loaders, "busy": busy}
        name = f"{what} {count}"
        return Contender(name, "benchmarks.scaling:open_scaling", arguments, tuple(cores[-used:]), one_thread=False)

    for count in workers:
        of = {"of": f"alone {workers[0]}", "times": count / workers[0]}
        yield contender("alone", count, count), {"what": "alone", "workers": count, **of}
    spare = max((count for count in workers if count < len(cores)), default=0)
    if spare:
        idle = contender("idle", spare, spare + 1)
        yield idle, {"what": "a core more", "workers": spare}
        busy = contender("busy", spare, spare + 1, busy=True)
        yield busy, {"what": "main thread busy", "workers": spare, "of": idle.name, "times": 1}
    else:
        left_out(f"{peer} beside a busy main thread", "needs a core more than workers")
    halves = max(workers) // 2
    if halves:
        two = contender("two", halves, 2 * halves, loaders=2)
        of = {"of": f"alone {2 * halves}", "times": 1} if 2 * halves in workers else {}
        yield two, {"what": "two loaders", "workers": halves, **of}


def _share(rounds: Mapping[str, list[Round]], name: str, row: Mapping[str, Any]) -> dict[str, float] | None:
    if "of" not in row:
        return None
    rate = FIGURES["images_a_second"]
    pairs = zip(rounds[name], rounds[row["of"]], strict=True)
    return median_with_interval([rate(mine) / (rate(other) * row["times"]) for mine, other in pairs])


def run(options: argparse.Namespace) -> int:
    """Measure every kind and system; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), options.cores or usable_cores()
    workers = options.workers or _doubled(len(cores))
    peers = present_peers(options.peers)
    session = Session("scaling", options.out, ("file", *COLUMNS), pictures=len(pictures), cores=cores)
    for kind in (KINDS[name] for name in options.kinds):
        for peer, (path, written_by) in prepared_files(kind, pictures, options.cache, peers).items():
            task = Task(str(path), options.size, options.samples, options.batch_size, 1)
            described = {entry.name: (entry, row) for entry, row in _contenders(peer, task, workers, cores)}
            rounds = measure([entry for entry, _ in described.values()], options.warm_up, options.rounds)
            for name, found in summarise(rounds, FIGURES).items():
                row = described[name][1]
                share = _share(rounds, name, row)
                cells = [kind.name, peer, row["what"], row["workers"], *interval_cells(found["images_a_second"])]
                session.line(
                    [*cells, *interval_cells(share, 2), row.get("of", "")],
                    {
                        "kind": kind.name,
                        "peer": peer,
                        "size": options.size,
                        "written_by": written_by,
                        **row,
                        "share": share,
                        **found,
                    },
                )
    return 0
